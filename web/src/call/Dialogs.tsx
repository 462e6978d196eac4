// Which dialog of the meeting is open.
import { useTranslation } from 'react-i18next'
import { MonitorUp, Presentation, Settings, UserPlus, Users } from 'lucide-react'
import { Button } from '../ui/Button'
import { Dialog } from '../ui/Dialog'
import { togglePanel, useCall, useMe, useScreen } from './context'
import { InviteDialog } from './InviteDialog'
import { LeaveDialog } from './LeaveDialog'
import { SettingsDialog } from './SettingsDialog'
import { canShareScreen } from './Toolbar'
import css from './Dialogs.module.css'

export function Dialogs() {
  const { screen } = useCall()
  const dialog = useScreen((state) => state.dialog)
  const close = () => screen.setState({ dialog: undefined })
  switch (dialog) {
    case 'invite':
      return <InviteDialog onClose={close} />
    case 'settings':
      return <SettingsDialog onClose={close} />
    case 'leave':
      return <LeaveDialog onClose={close} />
    case 'more':
      return <MoreDialog onClose={close} />
    case undefined:
      return null
  }
}

/** On phones: the controls that have no place in the bar. */
function MoreDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation()
  const { meeting, screen } = useCall()
  const view = useScreen((state) => state.view)
  const sharing = useMe()?.screen.state
  const entries = [
    { icon: Users, label: t('toolbar.people'), act: () => togglePanel(screen, 'people'), testid: 'more-people' },
    {
      icon: Presentation,
      label: t('toolbar.view'),
      pressed: view === 'speaker',
      act: () => screen.setState({ view: view === 'speaker' ? 'grid' : 'speaker' }),
      testid: 'more-view',
    },
    ...(canShareScreen()
      ? [
          {
            icon: MonitorUp,
            label: t('toolbar.shareLong'),
            pressed: sharing !== undefined && sharing !== 'off',
            act: () => void meeting.setScreen(sharing === 'off'),
            testid: 'more-share',
          },
        ]
      : []),
    { icon: UserPlus, label: t('toolbar.invite'), act: () => screen.setState({ dialog: 'invite' }), testid: 'more-invite' },
    { icon: Settings, label: t('toolbar.settings'), act: () => screen.setState({ dialog: 'settings' }), testid: 'more-settings' },
  ]
  return (
    <Dialog heading={t('toolbar.more')} onClose={onClose} sheet>
      <ul role="list" className={css.entries}>
        {entries.map(({ icon, label, act, testid, ...rest }) => (
          <li key={testid}>
            <Button
              kind="quiet"
              icon={icon}
              aria-pressed={'pressed' in rest ? rest.pressed : undefined}
              onClick={() => {
                onClose()
                act()
              }}
              data-testid={testid}
            >
              {label}
            </Button>
          </li>
        ))}
      </ul>
    </Dialog>
  )
}
