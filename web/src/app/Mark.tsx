// The product's mark: a council chamber seen from above, seats in a half circle around the chair.
import css from './Page.module.css'

const SEATS = [
  [5.5, 20, 2], [8.6, 12.6, 2], [16, 9.5, 2], [23.4, 12.6, 2], [26.5, 20, 2],
  [11.6, 19.4, 1.7], [16, 16.2, 1.7], [20.4, 19.4, 1.7],
] as const

export function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="36" height="36" aria-hidden="true" className={css.mark}>
      <rect width="32" height="32" rx="7" className={css.markGround} />
      {SEATS.map(([x, y, radius]) => (
        <circle key={`${x}-${y}`} cx={x} cy={y} r={radius} />
      ))}
      <rect x="12" y="23.2" width="8" height="2.6" rx="1.3" />
    </svg>
  )
}
