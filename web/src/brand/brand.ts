// What a municipality sets about its client: name, legal links, accent colour. Read once at start;
// the page does not wait for it, as everything has a default.
import { create } from 'zustand'
import { fetchConfig, type SiteConfig } from '../api/client'
import { parseHex, readableOn, toHex, type Rgb } from './contrast'

export const useBrand = create<SiteConfig>()(() => ({
  name: 'Ratssaal',
  languages: ['de', 'en'],
  imprint: null,
  privacy: null,
  accessibility: null,
  accent: null,
  open_rooms: true,
}))

/** The page grounds that an accent has to be readable on; the same values as in styles/tokens.css. */
const LIGHT_GROUND: Rgb = [0xf2, 0xf5, 0xf6]
const DARK_GROUND: Rgb = [0x1b, 0x25, 0x2d]

/** The two forms of an accent, or none when it is not a hex colour. */
export function accentForms(accent: string | null): { onLight: string; onDark: string } | undefined {
  const color = accent === null ? undefined : parseHex(accent)
  if (!color) return undefined
  return { onLight: toHex(readableOn(color, LIGHT_GROUND)), onDark: toHex(readableOn(color, DARK_GROUND)) }
}

/** Only links that open a page: a configuration mistake must not become a `javascript:` link. */
const webLink = (link: unknown) =>
  typeof link === 'string' && (/^https?:\/\//.test(link) || /^\/(?!\/)/.test(link)) ? link : null

export async function loadBrand(): Promise<void> {
  const config = await fetchConfig().catch(() => undefined)
  if (!config) return
  useBrand.setState({
    ...config,
    imprint: webLink(config.imprint),
    privacy: webLink(config.privacy),
    accessibility: webLink(config.accessibility),
  })
  const forms = accentForms(config.accent)
  if (!forms) return
  document.documentElement.style.setProperty('--brand-on-light', forms.onLight)
  document.documentElement.style.setProperty('--brand-on-dark', forms.onDark)
}
