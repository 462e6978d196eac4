// The stage: a grid of equal tiles, or one large tile with the others in a strip. Measures itself, shows
// one page, and asks the bridge for the pictures on that page only.
import { useEffect, useMemo, useRef, useState } from 'react'
import { ChevronLeft, ChevronRight } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { useShallow } from 'zustand/react/shallow'
import { Button } from '../ui/Button'
import { useCall, useMeeting, useScreen } from './context'
import { Alone } from './Alone'
import { focused } from './focus'
import { fit, focusFor, gridFor, pageOf, type Box } from './grid'
import { tilesOf, type Tile } from './people'
import { TileView } from './TileView'
import { useKeptFocus } from './use-kept-focus'
import css from './Stage.module.css'

function useSize() {
  const ref = useRef<HTMLDivElement>(null)
  const [size, setSize] = useState<Box>({ width: 0, height: 0 })
  useEffect(() => {
    if (!ref.current) return
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: Math.floor(entry.contentRect.width), height: Math.floor(entry.contentRect.height) })
    })
    observer.observe(ref.current)
    return () => observer.disconnect()
  }, [])
  return [ref, size] as const
}

export function Stage() {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const people = useMeeting((state) => state.people)
  const speaker = useMeeting((state) => state.speaker)
  const choice = useScreen(useShallow(({ view, pinned, dismissed }) => ({ view, pinned, dismissed })))
  const [wantedPage, setWantedPage] = useState(0)
  const [ref, size] = useSize()
  const kept = useKeptFocus()

  const tiles = useMemo(() => tilesOf(people), [people])
  const large = focused(tiles, { ...choice, speaker })
  const rest = large ? tiles.filter((tile) => tile !== large) : tiles
  const grid = gridFor(size, rest.length)
  const focus = focusFor(size, rest.length)
  const { items, page, pages } = pageOf(rest, large ? focus.strip.perPage : grid.perPage, wantedPage)

  const visible = [...(large ? [large.id] : []), ...items.map((tile) => tile.id)].join('\n')
  useEffect(() => {
    meeting.show(new Set(visible.split('\n')))
  }, [meeting, visible])

  const small = large ? focus.strip.tile : grid.tile
  const list = (
    <ul role="list" className={large && focus.beside ? css.column : css.grid}>
      {items.map((tile) => (
        <TileItem key={tile.id} tile={tile} box={small} held={false} compact={small.width < 250} />
      ))}
    </ul>
  )
  return (
    <section {...kept} aria-label={t('call.stage')} className={css.stage} data-region="stage" tabIndex={-1} data-testid="stage">
      <div ref={ref} className={css.space}>
        {large ? (
          <div className={focus.beside ? css.beside : css.below}>
            <ul role="list" className={css.main} style={{ ...focus.main }}>
              <TileItem key={large.id} tile={large} box={large.kind === 'screen' ? focus.main : fit(focus.main, 1)} held={large.kind === 'screen' || large.id === choice.pinned} compact={false} />
            </ul>
            {rest.length > 0 && list}
          </div>
        ) : (
          list
        )}
      </div>
      {people.length === 1 && <Alone />}
      {pages > 1 && (
        <nav aria-label={t('pages.label')} className={css.pages}>
          <Button kind="quiet" icon={ChevronLeft} iconOnly aria-disabled={page === 0 || undefined} onClick={() => setWantedPage(Math.max(0, page - 1))} data-testid="page-previous">
            {t('pages.previous')}
          </Button>
          <span aria-live="polite" data-testid="page-position">
            {t('pages.position', { page: page + 1, pages })}
          </span>
          <Button kind="quiet" icon={ChevronRight} iconOnly aria-disabled={page === pages - 1 || undefined} onClick={() => setWantedPage(Math.min(pages - 1, page + 1))} data-testid="page-next">
            {t('pages.next')}
          </Button>
        </nav>
      )}
    </section>
  )
}

function TileItem({ box, ...rest }: { tile: Tile; box: Box; held: boolean; compact: boolean }) {
  return (
    <li className={css.item} style={{ width: box.width, height: box.height }}>
      <TileView {...rest} />
    </li>
  )
}
