// How the client is built: hashed files that the bridge can serve with `Cache-Control: immutable`,
// nothing inlined (the content security policy allows no inline script, style or data: font).
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

/** Where `npm run dev` finds the bridge that answers the API and the signalling. */
const bridge = process.env.RATSSAAL_URL ?? 'http://127.0.0.1:7880'

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    manifest: 'manifest.json',
    // What the bundled libraries' licences ask to be passed on.
    license: { fileName: 'licenses.txt' },
    modulePreload: { polyfill: false },
    // The call's bundle is one on purpose; `npm run budget` limits what counts, its compressed size.
    chunkSizeWarningLimit: 900,
  },
  server: {
    proxy: {
      '/api': bridge,
      '/twirp': bridge,
      '/rtc': { target: bridge, ws: true },
    },
  },
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
})
