// The picture on the first page: a council chamber's seats in half circles, some of them taken.
import css from './StartPage.module.css'

/** Radius of each row and its number of seats. */
const ROWS = [
  [46, 6],
  [72, 9],
  [98, 12],
] as const

const SEATS = ROWS.flatMap(([radius, count], row) =>
  Array.from({ length: count }, (_, index) => {
    const angle = Math.PI * (0.06 + (0.88 * index) / (count - 1))
    return {
      key: `${row}-${index}`,
      x: 120 - radius * Math.cos(angle),
      y: 112 - radius * Math.sin(angle),
      taken: (index * 5 + row * 3) % 7 < 4,
    }
  }),
)

export function Chamber() {
  return (
    <svg viewBox="0 0 240 132" aria-hidden="true" className={css.chamber}>
      {SEATS.map(({ key, x, y, taken }) => (
        <circle key={key} cx={x} cy={y} r="8" className={taken ? css.taken : css.free} />
      ))}
      <rect x="98" y="110" width="44" height="13" rx="6.5" className={css.taken} />
    </svg>
  )
}
