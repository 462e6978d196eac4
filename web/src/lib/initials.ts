// Initials and their colour, for people whose camera is off. The colour follows from the identity, so
// a person keeps it; every hue is chosen dark enough for white letters (7:1).

/** "Dr. Ayşe Yılmaz" → "AY"; at most two letters. */
export function initials(name: string): string {
  const words = name
    .split(/[\s-]+/)
    .filter((word) => /^[\p{L}\p{N}]/u.test(word) && !/^(dr|prof|h\.?c|dipl|ing|von|van|de|zu)\.?$/i.test(word))
  const chosen = words.length > 1 ? [words[0], words.at(-1)] : [words[0] ?? name]
  return chosen.map((word) => ([...(word ?? '')][0] ?? '').toLocaleUpperCase('de')).join('')
}

/** Backgrounds for white letters. */
export const INITIAL_COLORS = [
  '#1f5673', '#2b5c3f', '#6b3a5e', '#7a3b2e', '#40507f', '#5c4a1e', '#1d5c5c', '#703350', '#4a4f57', '#4d3f7d',
] as const

export function initialColor(identity: string): string {
  // FNV-1a: spreads similar identities.
  let hash = 0x811c9dc5
  for (const unit of identity) hash = Math.imul(hash ^ (unit.codePointAt(0) ?? 0), 0x01000193) >>> 0
  return INITIAL_COLORS[hash % INITIAL_COLORS.length] ?? INITIAL_COLORS[0]
}
