// The meeting's screen: header, stage, panel, controls, dialogs; connects on arrival, leaves on departure.
import { useEffect, useRef, useState } from 'react'
import { ShieldCheck, Users } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import type { Admission } from '../api/client'
import { usePageTitle } from '../a11y/title'
import type { EndReason } from '../end/reason'
import type { Handover } from '../prejoin/local-media'
import { Connecting } from '../room/Connecting'
import { Banners } from './Banners'
import { ChatPanel } from './ChatPanel'
import { Context, createScreen, useCall, useMeeting, useScreen } from './context'
import { Dialogs } from './Dialogs'
import { Meeting } from './meeting'
import { PeoplePanel } from './PeoplePanel'
import { Stage } from './Stage'
import { Toolbar } from './Toolbar'
import { useNews } from './use-news'
import { focusToolbar, useShortcuts } from './use-shortcuts'
import { useWakeLock } from './use-wake-lock'
import css from './Call.module.css'

interface Props {
  admission: Admission
  media: Handover
  /** A fresh token for the same seat. */
  renew: () => Promise<string>
  onEnd: (reason: EndReason) => void
}

export default function Call({ admission, media, renew, onEnd }: Props) {
  const [context] = useState(() => ({ meeting: new Meeting(admission, media, renew, onEnd), screen: createScreen() }))
  useEffect(() => {
    context.meeting.start()
    return () => context.meeting.stopSoon()
  }, [context])
  return (
    <Context value={context}>
      <Frame />
    </Context>
  )
}

function Frame() {
  const { meeting } = useCall()
  const connecting = useMeeting((state) => state.connection === 'connecting')
  if (connecting) return <Connecting room={meeting.name} />
  return <Connected />
}

function Connected() {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const panel = useScreen((state) => state.panel)
  const unread = useScreen((state) => state.unread)
  const count = useMeeting((state) => state.people.length)
  usePageTitle(unread > 0 ? t('call.titleUnread', { count: unread, room: meeting.name }) : t('call.title', { room: meeting.name }))
  useNews()
  useWakeLock()
  useShortcuts()
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => heading.current?.focus(), [])
  return (
    <div className={css.call} data-theme="dark" data-testid="call">
      <header className={css.header}>
        <button type="button" className={css.skip} onClick={focusToolbar}>
          {t('settings.shortcuts.toolbar')}
        </button>
        <h1 ref={heading} tabIndex={-1} className={css.room}>
          <span className="visually-hidden">{t('call.title', { room: '' }).trim()}</span> {meeting.name}
        </h1>
        {meeting.moderation && (
          <p className={css.fact}>
            <ShieldCheck size={18} aria-hidden="true" /> {t('call.moderating')}
          </p>
        )}
        <p className={css.fact} data-testid="people-count">
          <Users size={18} aria-hidden="true" /> {t('call.peopleCount', { count })}
        </p>
      </header>
      <Banners />
      <main className={css.main}>
        <Stage />
        {panel === 'people' && <PeoplePanel />}
        {panel === 'chat' && <ChatPanel />}
      </main>
      <Toolbar />
      <Dialogs />
    </div>
  )
}
