// Contrast by WCAG 2.2 (relative luminance): makes any accent colour readable and derives the colours
// of initials. Pure.

/** Red, green, blue, each 0–255. */
export type Rgb = readonly [number, number, number]

/** `#rgb` or `#rrggbb`; anything else is undefined. */
export function parseHex(text: string): Rgb | undefined {
  const short = /^#([\da-f])([\da-f])([\da-f])$/i.exec(text)
  const long = /^#([\da-f]{2})([\da-f]{2})([\da-f]{2})$/i.exec(text)
  const parts = short?.slice(1).map((digit) => digit + digit) ?? long?.slice(1)
  if (!parts) return undefined
  const [red = 0, green = 0, blue = 0] = parts.map((part) => Number.parseInt(part, 16))
  return [red, green, blue]
}

export const toHex = (color: Rgb) =>
  `#${color.map((part) => Math.round(part).toString(16).padStart(2, '0')).join('')}`

function luminance(color: Rgb): number {
  const [red = 0, green = 0, blue = 0] = color.map((part) => {
    const share = part / 255
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/** Contrast ratio, 1 to 21. */
export function contrast(a: Rgb, b: Rgb): number {
  const [light, dark] = [luminance(a), luminance(b)].toSorted((x, y) => y - x) as [number, number]
  return (light + 0.05) / (dark + 0.05)
}

const BLACK: Rgb = [0, 0, 0]
const WHITE: Rgb = [255, 255, 255]

const mix = (from: Rgb, to: Rgb, share: number): Rgb => [
  from[0] + (to[0] - from[0]) * share,
  from[1] + (to[1] - from[1]) * share,
  from[2] + (to[2] - from[2]) * share,
]

/** `color`, darkened or lightened in small steps until it reaches `ratio` on `background`. */
export function readableOn(color: Rgb, background: Rgb, ratio = 4.5): Rgb {
  const towards = contrast(BLACK, background) > contrast(WHITE, background) ? BLACK : WHITE
  for (let step = 0; step <= 50; step += 1) {
    const candidate = mix(color, towards, step / 50).map(Math.round) as unknown as Rgb
    if (contrast(candidate, background) >= ratio) return candidate
  }
  return towards
}
