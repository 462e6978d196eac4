// Who is here, what their devices do, and (for moderators) what can be done about it.
import { useId, useState } from 'react'
import { EllipsisVertical, Mic, MicOff, MonitorUp, Radio, Video, VideoOff } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { announce } from '../a11y/announcer'
import { ModerationError } from '../api/moderation'
import { initialColor, initials } from '../lib/initials'
import { Button } from '../ui/Button'
import { Notice } from '../ui/Notice'
import { useCall, useMeeting } from './context'
import type { Person } from './people'
import { focusPanel } from './panel'
import { PanelFrame } from './PanelFrame'
import { RemoveDialog } from './RemoveDialog'
import css from './PeoplePanel.module.css'

export type FailureKind = ModerationError['kind']
export const failureOf = (error: unknown): FailureKind => (error instanceof ModerationError ? error.kind : 'failed')

export function PeoplePanel() {
  const { t } = useTranslation()
  const people = useMeeting((state) => state.people)
  const [failure, setFailure] = useState<FailureKind>()
  return (
    <PanelFrame heading={t('people.heading')} testid="people-panel">
      <p className={css.count}>{t('people.count', { count: people.length })}</p>
      {failure !== undefined && (
        <div className={css.failure}>
          <Notice kind="error" alert>
            <p>{t(`people.${failure}`)}</p>
          </Notice>
        </div>
      )}
      <ul role="list" aria-label={t('people.list')} className={css.list}>
        {people.map((person) => (
          <PersonRow key={person.identity} person={person} onFailure={setFailure} />
        ))}
      </ul>
    </PanelFrame>
  )
}

function PersonRow({ person, onFailure }: { person: Person; onFailure: (failure: FailureKind | undefined) => void }) {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const [open, setOpen] = useState(false)
  const actionsId = useId()
  const name = person.local ? t('call.you', { name: person.name }) : person.name
  const camera = person.camera.state !== 'off'
  const sharing = person.screen.state !== 'off'
  return (
    <li className={css.person} data-testid="person" data-identity={person.identity}>
      <div className={css.row}>
        <span className={css.initials} style={{ backgroundColor: initialColor(person.identity) }} aria-hidden="true">
          {initials(person.name)}
        </span>
        <span className={css.name}>
          <bdi>{name}</bdi>
          {person.forwardedFrom !== undefined && (
            <span className={css.sharing} data-testid="person-forwarded">
              <Radio size={16} aria-hidden="true" /> {t('people.forwarded', { room: person.forwardedFrom })}
            </span>
          )}
          {sharing && (
            <span className={css.sharing}>
              <MonitorUp size={16} aria-hidden="true" /> {t('people.sharing')}
            </span>
          )}
        </span>
        <span className={css.states}>
          <State on={person.microphone === 'on'} icons={[Mic, MicOff]} text={t(person.microphone === 'on' ? 'tile.unmuted' : person.microphone === 'off' ? 'tile.muted' : 'tile.noMicrophone')} testid="person-microphone" />
          <State on={camera} icons={[Video, VideoOff]} text={t(camera ? 'people.cameraOn' : 'people.cameraOff')} testid="person-camera" />
        </span>
        {meeting.moderation && !person.local && (
          <Button
            kind="quiet"
            icon={EllipsisVertical}
            iconOnly
            aria-expanded={open}
            aria-controls={actionsId}
            onClick={() => setOpen(!open)}
            data-testid="person-actions"
          >
            {t('people.actions', { name: person.name })}
          </Button>
        )}
      </div>
      {meeting.moderation && !person.local && (
        <div id={actionsId} hidden={!open} role="group" aria-label={t('people.actions', { name: person.name })}>
          {open && <Actions person={person} onFailure={onFailure} />}
        </div>
      )}
    </li>
  )
}

function State({ on, icons: [On, Off], text, testid }: { on: boolean; icons: readonly [typeof Mic, typeof Mic]; text: string; testid: string }) {
  return (
    <span className={on ? css.on : css.off} data-testid={testid} data-on={on}>
      {on ? <On size={20} aria-hidden="true" /> : <Off size={20} aria-hidden="true" />}
      <span className="visually-hidden">{text}</span>
    </span>
  )
}

function Actions({ person, onFailure }: { person: Person; onFailure: (failure: FailureKind | undefined) => void }) {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const [removing, setRemoving] = useState(false)
  const { moderation } = meeting
  if (!moderation) return null

  const act = (action: () => Promise<void>, done: string) => {
    onFailure(undefined)
    action().then(
      () => announce(done),
      (error: unknown) => onFailure(failureOf(error)),
    )
  }
  const all = [
    [person.microphone === 'on' ? person.microphoneSid : undefined, 'people.mute', 'people.muteDone', 'action-mute'],
    [person.camera.state !== 'off' ? person.cameraSid : undefined, 'people.stopCamera', 'people.cameraDone', 'action-camera'],
    [person.screen.state !== 'off' ? person.screenSid : undefined, 'people.stopScreen', 'people.screenDone', 'action-screen'],
  ] as const
  // Whoever is forwarded from another room is muted there.
  const mutes = person.forwardedFrom === undefined ? all : []
  return (
    <div className={css.actions}>
      {mutes.map(([sid, label, done, testid]) =>
        sid === undefined ? null : (
          <Button key={label} onClick={() => act(() => moderation.mute(person.identity, sid), t(done, { name: person.name }))} data-testid={testid}>
            {t(label)}
          </Button>
        ),
      )}
      <Button onClick={() => setRemoving(true)} className={css.remove} data-testid="action-remove">
        {t('people.remove')}
      </Button>
      {removing && (
        <RemoveDialog
          name={person.name}
          onClose={() => setRemoving(false)}
          onRemove={() => {
            setRemoving(false)
            act(
              // The row goes away with the person, and the focus with it: go on at the top of the panel.
              () => moderation.remove(person.identity).then(focusPanel),
              t('people.removeDone', { name: person.name }),
            )
          }}
        />
      )}
    </div>
  )
}
