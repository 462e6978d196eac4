// The chat: a log that is read out as it grows, and a field to write in.
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'react'
import { ArrowDown, SendHorizontal } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { characters } from '../lib/room-name'
import { Button } from '../ui/Button'
import { linkify, MESSAGE_MAX, type Message } from './chat'
import { useCall, useMeeting } from './context'
import { PanelFrame } from './PanelFrame'
import css from './ChatPanel.module.css'

/** Pixels from the end of the log within which it follows new messages. */
const FOLLOWS_WITHIN = 60

export function ChatPanel() {
  const { t } = useTranslation()
  return (
    <PanelFrame heading={t('chat.heading')} testid="chat-panel">
      <Log />
      <Composer />
    </PanelFrame>
  )
}

function Log() {
  const { t, i18n } = useTranslation()
  const messages = useMeeting((state) => state.messages)
  const log = useRef<HTMLDivElement>(null)
  const [follows, setFollows] = useState(true)

  const newest = messages.at(-1)
  useLayoutEffect(() => {
    if (newest && (follows || newest.own)) scrollToEnd(log.current)
  }, [newest, follows])

  const clock = new Intl.DateTimeFormat(i18n.language, { hour: '2-digit', minute: '2-digit' })
  return (
    <div className={css.frame}>
      {/* Focusable, since it scrolls: keyboards have to reach it. */}
      {/* oxlint-disable jsx-a11y/no-noninteractive-tabindex */}
      <div
        ref={log}
        role="log"
        aria-label={t('chat.log')}
        tabIndex={0}
        className={css.log}
        data-testid="chat-log"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => setFollows(scrollHeight - scrollTop - clientHeight < FOLLOWS_WITHIN)}
      >
        {messages.length === 0 && <p className={css.empty}>{t('chat.empty')}</p>}
        {messages.map((message, index) => (
          <MessageView key={`${message.identity} ${message.id}`} message={message} time={clock.format(message.at)} continues={continues(messages[index - 1], message)} />
        ))}
      </div>
      {/* oxlint-enable jsx-a11y/no-noninteractive-tabindex */}
      {!follows && (
        <Button icon={ArrowDown} className={css.toEnd} onClick={() => scrollToEnd(log.current)}>
          {t('chat.new')}
        </Button>
      )}
    </div>
  )
}

const scrollToEnd = (log: HTMLElement | null) => log?.scrollTo({ top: log.scrollHeight })

/** Whether a message belongs under the heading of the one before. */
const continues = (before: Message | undefined, message: Message) =>
  before !== undefined && before.identity === message.identity && message.at - before.at < 60_000

function MessageView({ message, time, continues: same }: { message: Message; time: string; continues: boolean }) {
  const { t } = useTranslation()
  return (
    <div className={[css.message, same && css.same].filter(Boolean).join(' ')} data-testid="chat-message">
      <p className={same ? 'visually-hidden' : css.from}>
        <strong dir="auto">{message.own ? t('chat.own') : message.name}</strong> <time dateTime={new Date(message.at).toISOString()}>{time}</time>
      </p>
      <p className={css.text} dir="auto">
        {linkify(message.text).map((piece, index) =>
          piece.kind === 'link' ? (
            // oxlint-disable-next-line react/no-array-index-key -- the pieces of a message never change
            <a key={index} href={piece.href} target="_blank" rel="noopener noreferrer">
              {piece.text}
            </a>
          ) : (
            piece.text
          ),
        )}
      </p>
    </div>
  )
}

function Composer() {
  const { t } = useTranslation()
  const { meeting, screen } = useCall()
  const id = useId()
  const [text, setText] = useState('')
  const [busy, setBusy] = useState(false)
  const [failed, setFailed] = useState(false)

  useEffect(() => screen.setState({ unread: 0 }), [screen])

  const long = characters(text) > MESSAGE_MAX
  const send = async () => {
    const message = text.trim()
    if (message === '' || busy || long) return
    setBusy(true)
    setFailed(false)
    try {
      await meeting.say(message)
      setText('')
    } catch {
      setFailed(true)
    }
    setBusy(false)
  }

  return (
    <form
      className={css.composer}
      onSubmit={(event) => {
        event.preventDefault()
        void send()
      }}
    >
      <label htmlFor={id} className={css.label}>
        {t('chat.label')}
      </label>
      <div className={css.line}>
        <textarea
          id={id}
          rows={2}
          value={text}
          className={css.input}
          aria-describedby={`${id}-status`}
          data-testid="chat-input"
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
              event.preventDefault()
              void send()
            }
          }}
        />
        <Button type="submit" kind="primary" icon={SendHorizontal} iconOnly busy={busy} data-testid="chat-send">
          {t('chat.send')}
        </Button>
      </div>
      <p id={`${id}-status`} role="status" className={css.status}>
        {long && t('chat.long', { max: MESSAGE_MAX })}
        {failed && t('chat.failed')}
      </p>
    </form>
  )
}
