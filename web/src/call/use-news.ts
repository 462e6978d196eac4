// Tells assistive technology what changes in the meeting: who comes and goes, the connection, new
// messages, the own devices. Also counts unread messages.
import { useEffect } from 'react'
import { useTranslation } from 'react-i18next'
import { announce } from '../a11y/announcer'
import { usePreferences } from '../lib/preferences'
import { useCall } from './context'
import type { Person } from './people'

/** Above this many people, joining and leaving is no longer read out. */
const JOINS_READ_UP_TO = 10

/** Names in `after` that are not in `before`. Pure. */
export function added(before: readonly Person[], after: readonly Person[]): string[] {
  const known = new Set(before.map((person) => person.identity))
  return after.filter((person) => !known.has(person.identity)).map((person) => person.name)
}

/** Characters of a message that are read out unasked; all of it is in the chat. */
const READ_OUT = 200

const shorten = (text: string) => (text.length > READ_OUT ? `${text.slice(0, READ_OUT)} …` : text)

export function useNews(): void {
  const { t, i18n } = useTranslation()
  const { meeting, screen } = useCall()

  useEffect(() => {
    const list = (names: string[]) => new Intl.ListFormat(i18n.language).format(names)
    return meeting.store.subscribe((now, before) => {
      if (now.connection !== before.connection) {
        if (now.connection === 'reconnecting') announce(t('call.reconnecting'), 'assertive')
        else if (before.connection === 'reconnecting') announce(t('call.reconnected'), 'assertive')
      }
      if (now.people !== before.people) {
        const few = Math.max(now.people.length, before.people.length) <= JOINS_READ_UP_TO
        if (few && before.people.length > 0 && usePreferences.getState().announceJoins) {
          const [came, went] = [added(before.people, now.people), added(now.people, before.people)]
          if (came.length > 0) announce(t(came.length > 1 ? 'call.joinedMany' : 'call.joined', { names: list(came) }))
          if (went.length > 0) announce(t(went.length > 1 ? 'call.leftMany' : 'call.left', { names: list(went) }))
        }
        tellOwnDevices(before.people[0], now.people[0])
      }
      const message = now.messages.at(-1)
      if (message && now.messages !== before.messages && !message.own && screen.getState().panel !== 'chat') {
        screen.setState(({ unread }) => ({ unread: unread + 1 }))
        announce(t('chat.announce', { name: message.name, text: shorten(message.text) }))
      }
    })

    function tellOwnDevices(old: Person | undefined, own: Person | undefined): void {
      if (!old?.local || !own?.local) return
      if ((old.microphone === 'on') !== (own.microphone === 'on')) {
        announce(t(own.microphone === 'on' ? 'toolbar.microphoneOn' : 'toolbar.microphoneOff'))
      }
      if ((old.camera.state === 'off') !== (own.camera.state === 'off')) {
        announce(t(own.camera.state === 'off' ? 'toolbar.cameraOff' : 'toolbar.cameraOn'))
      }
      if ((old.screen.state === 'off') !== (own.screen.state === 'off')) {
        announce(t(own.screen.state === 'off' ? 'toolbar.shareOff' : 'toolbar.shareOn'))
      }
    }
  }, [meeting, screen, t, i18n])
}
