// Which screen an address shows.
import { Redirect, Route, Switch } from 'wouter'
import { useTranslation } from 'react-i18next'
import { LiveRegions } from '../a11y/LiveRegions'
import { normaliseRoom, roomPath, safeDecode } from '../lib/room-name'
import { RoomScreen } from '../room/RoomScreen'
import { StartPage } from '../start/StartPage'
import { ErrorBoundary } from './ErrorBoundary'
import { MessagePage } from './MessagePage'

export function App() {
  return (
    <>
      <ErrorBoundary>
        <Switch>
          <Route path="/" component={StartPage} />
          <Route path="/r/:room">{({ room }) => <RoomAddress name={room} />}</Route>
          <Route component={NotFound} />
        </Switch>
      </ErrorBoundary>
      <LiveRegions />
    </>
  )
}

/** One room has one address: other spellings are led there, impossible ones are refused. */
function RoomAddress({ name }: { name: string }) {
  const room = normaliseRoom(safeDecode(name))
  if (room === undefined) return <NotFound />
  if (room !== name) return <Redirect to={roomPath(room) + location.hash} replace />
  return <RoomScreen key={room} room={room} />
}

function NotFound() {
  const { t } = useTranslation()
  return <MessagePage title={t('error.notFoundTitle')} heading={t('error.notFoundHeading')} text={t('error.notFoundText')} />
}
