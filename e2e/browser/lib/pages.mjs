// Serves the bare livekit-client page (page/) from memory on loopback: bundled by esbuild, nothing written to disk.
import http from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const page = join(dirname(fileURLToPath(import.meta.url)), '../page');
const HTML = '<!doctype html><html lang="en"><meta charset="utf-8"><title>e2e</title><body><script src="/participant.js"></script></body></html>';

/** A script of page/ with everything it needs, as text. */
export async function bundle(name) {
  const { outputFiles } = await build({ entryPoints: [join(page, name)], bundle: true, format: 'iife', write: false, minify: true, logLevel: 'error' });
  return outputFiles[0].text;
}

/** `{ url, stop() }` of the page server. */
export async function servePages() {
  const script = await bundle('participant.mjs');
  const server = http.createServer((request, response) => {
    const isScript = request.url === '/participant.js';
    response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html', 'cache-control': 'no-store' });
    response.end(isScript ? script : HTML);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://localhost:${server.address().port}/`,
    stop: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }),
  };
}
