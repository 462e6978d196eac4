// The first page: join by link or name, start a meeting, go back to a recent one.
import { useState } from 'react'
import { Link } from 'wouter'
import { Accessibility, EyeOff, Landmark } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { announce } from '../a11y/announcer'
import { Page } from '../app/Page'
import { useBrand } from '../brand/brand'
import { roomPath } from '../lib/room-name'
import { Button } from '../ui/Button'
import { Notice } from '../ui/Notice'
import { Chamber } from './Chamber'
import { JoinForm } from './JoinForm'
import { OpenForm } from './OpenForm'
import { forgetRooms, recentRooms } from './recent'
import css from './StartPage.module.css'

export function StartPage() {
  const { t } = useTranslation()
  const open = useBrand((brand) => brand.open_rooms)
  return (
    <Page title={t('start.title')}>
      <div className={css.intro}>
        <div>
          <h1 className={css.heading}>{t('start.heading')}</h1>
          <p className={css.lead}>{t('start.lead')}</p>
        </div>
        <Chamber />
      </div>
      <div className={css.ways}>
        <section className={css.way} aria-labelledby="join-heading">
          <h2 id="join-heading">{t('start.join')}</h2>
          <JoinForm />
        </section>
        <section className={css.way} aria-labelledby="open-heading">
          <h2 id="open-heading">{t('start.open')}</h2>
          {open ? <OpenForm /> : <Notice>{t('start.closed')}</Notice>}
        </section>
      </div>
      <RecentRooms />
      <ul role="list" className={css.trust}>
        {(
          [
            [Landmark, 'start.trustOwn', 'start.trustOwnText'],
            [EyeOff, 'start.trustNothing', 'start.trustNothingText'],
            [Accessibility, 'start.trustAll', 'start.trustAllText'],
          ] as const
        ).map(([Icon, heading, text]) => (
          <li key={heading}>
            <Icon size={26} aria-hidden="true" className={css.trustIcon} />
            <div>
              <strong>{t(heading)}</strong>
              <p>{t(text)}</p>
            </div>
          </li>
        ))}
      </ul>
    </Page>
  )
}

function RecentRooms() {
  const { t, i18n } = useTranslation()
  const [rooms, setRooms] = useState(recentRooms)
  if (rooms.length === 0) return null
  const day = new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium', timeStyle: 'short' })
  return (
    <section className={css.recent} aria-labelledby="recent-heading">
      <div className={css.recentHead}>
        <h2 id="recent-heading">{t('start.recent')}</h2>
        <p className={css.recentHint}>{t('start.recentHint')}</p>
        <Button
          kind="quiet"
          onClick={() => {
            forgetRooms()
            setRooms([])
            announce(t('start.recentCleared'))
            document.getElementById('main')?.focus()
          }}
        >
          {t('start.recentClear')}
        </Button>
      </div>
      <ul role="list" className={css.recentList}>
        {rooms.map(({ room, at }) => (
          <li key={room}>
            <Link href={roomPath(room)}>{room}</Link>
            <time dateTime={new Date(at).toISOString()}>{day.format(at)}</time>
          </li>
        ))}
      </ul>
    </section>
  )
}
