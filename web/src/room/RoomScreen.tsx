// One room from its link to its end: before, during, after. The meeting itself is a bundle of its own,
// fetched while a person still chooses the camera.
import { lazy, Suspense, useEffect, useState } from 'react'
import { useTranslation } from 'react-i18next'
import { announce } from '../a11y/announcer'
import { codeOf, join, mayPass, type Admission, type ApiErrorCode } from '../api/client'
import { MessagePage } from '../app/MessagePage'
import { EndPage } from '../end/EndPage'
import type { EndReason } from '../end/reason'
import { again } from '../lib/again'
import { dropIdentity, dropModeratorKey, identityIn, keepIdentity, moderatorKey, takeKeyFromAddress } from '../lib/seat'
import { ability } from '../prejoin/browser'
import { stopHandover, type Handover } from '../prejoin/local-media'
import { PreJoin } from '../prejoin/PreJoin'
import { rememberRoom } from '../start/recent'
import { Connecting } from './Connecting'

const loadCall = () => import('../call/Call')
const Call = lazy(loadCall)

type Phase =
  | { at: 'before'; failure?: ApiErrorCode }
  | { at: 'joining' }
  | { at: 'during'; admission: Admission; media: Handover; name: string }
  | { at: 'after'; reason: EndReason }

/**
 * A seat in `room` under `name`. What this tab kept from earlier may be stale: an old moderator key costs
 * the moderator's rights, an old identity the place, but neither the meeting.
 */
async function takeSeat(room: string, name: string): Promise<Admission> {
  const attempt = () => join({ room, name, key: moderatorKey(room), identity: identityIn(room) })
  const seat = () => again(attempt, (error) => mayPass(codeOf(error)))
  try {
    return await seat()
  } catch (error) {
    const code = codeOf(error)
    if (code !== 'invalid_key' && code !== 'bad_identity') throw error
    if (code === 'invalid_key') dropModeratorKey(room)
    else dropIdentity(room)
    return seat()
  }
}

export function RoomScreen({ room }: { room: string }) {
  const { t } = useTranslation()
  const [phase, setPhase] = useState<Phase>({ at: 'before' })
  const [able] = useState(() => ability(window))
  const [moderator] = useState(() => {
    takeKeyFromAddress(room)
    return moderatorKey(room) !== undefined
  })

  useEffect(() => {
    // A failed prefetch shows when the bundle is needed.
    if (able === 'able') void loadCall().catch(() => undefined)
  }, [able])

  if (able !== 'able') {
    return <MessagePage title={t('prejoin.title', { room })} heading={t(`media.${able}`)} text={t(`media.${able}How`)} />
  }

  const enter = async (name: string, media: Handover) => {
    setPhase({ at: 'joining' })
    announce(t('prejoin.joining'))
    try {
      const admission = await takeSeat(room, name)
      keepIdentity(room, admission.identity)
      rememberRoom(room)
      setPhase({ at: 'during', admission, media, name })
    } catch (error) {
      void stopHandover(media)
      setPhase({ at: 'before', failure: codeOf(error) })
    }
  }

  switch (phase.at) {
    case 'before':
      return <PreJoin room={room} moderator={moderator} busy={false} failure={phase.failure} onJoin={(name, media) => void enter(name, media)} />
    case 'joining':
      return <Connecting room={room} />
    case 'during':
      return (
        <Suspense fallback={<Connecting room={room} />}>
          <Call
            admission={phase.admission}
            media={phase.media}
            renew={async () => (await takeSeat(room, phase.name)).token}
            onEnd={(reason) => setPhase({ at: 'after', reason })}
          />
        </Suspense>
      )
    case 'after':
      return <EndPage room={room} reason={phase.reason} onAgain={() => setPhase({ at: 'before' })} />
  }
}
