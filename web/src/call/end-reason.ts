// From the protocol's reason of a disconnection to what the person is told.
import { DisconnectReason } from 'livekit-client'
import type { EndReason } from '../end/reason'

export function endReason(reason: DisconnectReason | undefined): EndReason {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return 'left'
    case DisconnectReason.DUPLICATE_IDENTITY:
      return 'duplicate'
    case DisconnectReason.PARTICIPANT_REMOVED:
      return 'removed'
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return 'ended'
    case DisconnectReason.SERVER_SHUTDOWN:
      return 'shutdown'
    case DisconnectReason.JOIN_FAILURE:
      return 'failed'
    default:
      return 'lost'
  }
}
