// One person's camera or shared screen on the stage.
import { memo, useEffect, useRef } from 'react'
import type { Track } from 'livekit-client'
import { Maximize2, MicOff, Minimize2, MonitorUp, SignalLow, Volume2, WifiOff } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { initialColor, initials } from '../lib/initials'
import { togglePin, useCall } from './context'
import type { Person, Tile } from './people'
import css from './TileView.module.css'

interface Props {
  tile: Tile
  /** Large because this person or somebody's shared screen asked for it: can be undone. */
  held: boolean
  /** In the strip: less text, smaller letters. */
  compact: boolean
}

export const TileView = memo(
  function TileView({ tile, held, compact }: Props) {
    const { t } = useTranslation()
    const { screen } = useCall()
    const { person, kind } = tile
    const picture = person[kind]
    const name = person.local ? t('call.you', { name: person.name }) : person.name
    const title = t(`tile.${kind}`, { name })
    const speaking = kind === 'camera' && person.speaking && person.microphone === 'on'
    return (
      <article
        aria-label={title}
        className={[css.tile, speaking && css.speaking, compact && css.compact].filter(Boolean).join(' ')}
        data-testid="tile"
        data-identity={person.identity}
        data-kind={kind}
        data-picture={picture.state}
        data-speaking={speaking}
      >
        {picture.state === 'live' || picture.state === 'paused' ? (
          <Picture track={picture.track} mirrored={person.local && kind === 'camera'} whole={kind === 'screen'} label={title} />
        ) : null}
        {picture.state === 'off' && (
          <span className={css.initials} style={{ backgroundColor: initialColor(person.identity) }} aria-hidden="true">
            {initials(person.name)}
          </span>
        )}
        {picture.state === 'waiting' && <p className={css.waiting}>{t('tile.loading')}</p>}
        {picture.state === 'paused' && <p className={css.paused}>{t('tile.paused')}</p>}
        {person.quality !== 'good' && <Quality quality={person.quality} />}
        <p className={css.name}>
          <MicrophoneState person={person} kind={kind} speaking={speaking} />
          <span className={css.nameText} dir="auto">{kind === 'screen' ? title : name}</span>
        </p>
        <button
          type="button"
          className={css.pin}
          aria-label={t(held ? 'tile.unpin' : 'tile.pin', { name: title })}
          onClick={() => togglePin(screen, tile.id, held)}
          data-testid="tile-pin"
        >
          {held ? <Minimize2 size={20} aria-hidden="true" /> : <Maximize2 size={20} aria-hidden="true" />}
        </button>
      </article>
    )
  },
  (before, after) =>
    before.tile.person === after.tile.person &&
    before.tile.kind === after.tile.kind &&
    before.held === after.held &&
    before.compact === after.compact,
)

function Quality({ quality }: { quality: 'poor' | 'lost' }) {
  const { t } = useTranslation()
  const Icon = quality === 'poor' ? SignalLow : WifiOff
  return (
    <p className={css.quality}>
      <Icon size={18} aria-hidden="true" /> <span>{t(quality === 'poor' ? 'tile.qualityPoor' : 'tile.qualityLost')}</span>
    </p>
  )
}

/** The microphone as an icon where it matters, and always as text for assistive technology. */
function MicrophoneState({ person, kind, speaking }: { person: Person; kind: Tile['kind']; speaking: boolean }) {
  const { t } = useTranslation()
  if (kind === 'screen') return <MonitorUp size={16} aria-hidden="true" />
  const text = speaking
    ? t('tile.speaking')
    : t(person.microphone === 'on' ? 'tile.unmuted' : person.microphone === 'off' ? 'tile.muted' : 'tile.noMicrophone')
  const Icon = speaking ? Volume2 : person.microphone === 'on' ? undefined : MicOff
  return (
    <>
      {Icon && <Icon size={16} aria-hidden="true" className={speaking ? css.voice : css.mute} />}
      <span className="visually-hidden" data-testid="tile-microphone">
        {text}:
      </span>
    </>
  )
}

function Picture({ track, mirrored, whole, label }: { track: Track; mirrored: boolean; whole: boolean; label: string }) {
  const ref = useRef<HTMLVideoElement>(null)
  useEffect(() => {
    const element = ref.current
    if (!element) return
    track.attach(element)
    return () => {
      track.detach(element)
    }
  }, [track])
  return (
    <video
      ref={ref}
      muted
      playsInline
      aria-label={label}
      className={[css.video, mirrored && css.mirrored, whole && css.whole].filter(Boolean).join(' ')}
    />
  )
}
