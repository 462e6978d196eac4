// The controls: what one does all the time. On phones five of them, the rest under "more".
import type { ReactNode } from 'react'
import {
  Ellipsis, LogOut, MessageSquareText, Mic, MicOff, MonitorUp, Presentation, Settings, UserPlus, Users, Video, VideoOff,
  type LucideIcon,
} from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { togglePanel, useCall, useMe, useScreen, type OpenDialog } from './context'
import css from './Toolbar.module.css'

interface ToolProps {
  icon: LucideIcon
  label: string
  /** What assistive technology reads instead of the short label. */
  name?: string
  pressed?: boolean
  onClick: () => void
  testid: string
  /** Gets the focus back when that panel or dialog closes. */
  opens?: string
  look?: 'plain' | 'off' | 'leave'
  badge?: number
  /** Not on phones. */
  wide?: boolean
  children?: ReactNode
}

function Tool({ icon: Icon, label, name, pressed, onClick, testid, opens, look = 'plain', badge = 0, wide }: ToolProps) {
  return (
    <button
      type="button"
      className={[css.tool, css[look], wide && css.wide].filter(Boolean).join(' ')}
      aria-label={name}
      aria-pressed={pressed}
      onClick={onClick}
      data-testid={testid}
      data-opens={opens}
    >
      <span className={css.icon}>
        <Icon size={24} aria-hidden="true" />
        {badge > 0 && (
          <span className={css.badge} aria-hidden="true">
            {badge > 99 ? '99+' : badge}
          </span>
        )}
      </span>
      <span className={css.label}>{label}</span>
    </button>
  )
}

export const canShareScreen = () => 'getDisplayMedia' in navigator.mediaDevices

export function Toolbar() {
  const { t } = useTranslation()
  const { meeting, screen } = useCall()
  const me = useMe()
  const panel = useScreen((state) => state.panel)
  const unread = useScreen((state) => state.unread)
  const view = useScreen((state) => state.view)
  const open = (dialog: OpenDialog) => screen.setState({ dialog })

  const microphone = me?.microphone === 'on'
  const camera = me !== undefined && me.camera.state !== 'off'
  const sharing = me !== undefined && me.screen.state !== 'off'
  return (
    <section aria-label={t('toolbar.label')} className={css.toolbar} data-region="toolbar" tabIndex={-1}>
      <div className={css.group}>
        <Tool
          icon={microphone ? Mic : MicOff}
          label={t('toolbar.microphone')}
          pressed={microphone}
          look={microphone ? 'plain' : 'off'}
          onClick={() => void meeting.setMicrophone(!microphone)}
          testid="tool-microphone"
        />
        <Tool
          icon={camera ? Video : VideoOff}
          label={t('toolbar.camera')}
          pressed={camera}
          look={camera ? 'plain' : 'off'}
          onClick={() => void meeting.setCamera(!camera)}
          testid="tool-camera"
        />
        {canShareScreen() && (
          <Tool
            wide
            icon={MonitorUp}
            label={t('toolbar.share')}
            name={t('toolbar.shareLong')}
            pressed={sharing}
            onClick={() => void meeting.setScreen(!sharing)}
            testid="tool-share"
          />
        )}
      </div>
      <div className={css.group}>
        <Tool
          wide
          icon={Users}
          label={t('toolbar.people')}
          pressed={panel === 'people'}
          opens="people"
          onClick={() => togglePanel(screen, 'people')}
          testid="tool-people"
        />
        <Tool
          icon={MessageSquareText}
          label={t('toolbar.chat')}
          name={unread > 0 ? t('toolbar.chatUnread', { count: unread }) : t('toolbar.chat')}
          pressed={panel === 'chat'}
          badge={unread}
          opens="chat"
          onClick={() => togglePanel(screen, 'chat')}
          testid="tool-chat"
        />
        <Tool
          wide
          icon={Presentation}
          label={t('toolbar.view')}
          pressed={view === 'speaker'}
          onClick={() => screen.setState({ view: view === 'speaker' ? 'grid' : 'speaker' })}
          testid="tool-view"
        />
        <Tool wide icon={UserPlus} label={t('toolbar.invite')} opens="invite" onClick={() => open('invite')} testid="tool-invite" />
        <Tool wide icon={Settings} label={t('toolbar.settings')} opens="settings" onClick={() => open('settings')} testid="tool-settings" />
      </div>
      <div className={css.group}>
        <div className={css.narrow}>
          <Tool icon={Ellipsis} label={t('toolbar.more')} opens="more" onClick={() => open('more')} testid="tool-more" />
        </div>
        <Tool
          icon={LogOut}
          label={t('toolbar.leave')}
          look="leave"
          opens="leave"
          onClick={() => (meeting.moderation ? open('leave') : void meeting.leave())}
          testid="tool-leave"
        />
      </div>
    </section>
  )
}
