// How others get in: the link, the same as a QR code, and for moderators a link that passes their rights on.
import { useMemo } from 'react'
import qrcode from 'qrcode-generator'
import { useTranslation } from 'react-i18next'
import { roomPath } from '../lib/room-name'
import { moderatorKey } from '../lib/seat'
import { CopyField } from '../ui/CopyField'
import { Dialog } from '../ui/Dialog'
import { useCall } from './context'
import css from './Dialogs.module.css'

export function InviteDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation()
  const { meeting } = useCall()
  const link = location.origin + roomPath(meeting.name)
  const key = meeting.moderation ? moderatorKey(meeting.name) : undefined
  return (
    <Dialog heading={t('invite.heading')} onClose={onClose} sheet>
      <div className={css.stack}>
        <CopyField label={t('invite.link')} value={link} action={t('invite.copyLink')} testid="invite-link" />
        <figure className={css.code}>
          <QrCode text={link} label={t('invite.qr')} />
          <p>{t('invite.qrHint')}</p>
        </figure>
        {key !== undefined && (
          <CopyField
            label={t('invite.moderatorLink')}
            hint={t('invite.moderatorHint')}
            value={`${link}#key=${key}`}
            action={t('invite.copyModerator')}
            testid="invite-moderator"
          />
        )}
      </div>
    </Dialog>
  )
}

/** Modules of free space around the code, as ISO/IEC 18004 asks for. */
const QUIET = 4

function QrCode({ text, label }: { text: string; label: string }) {
  const { path, size } = useMemo(() => {
    const code = qrcode(0, 'M')
    code.addData(text)
    code.make()
    const count = code.getModuleCount()
    let drawn = ''
    for (let row = 0; row < count; row += 1)
      for (let column = 0; column < count; column += 1) if (code.isDark(row, column)) drawn += `M${column + QUIET} ${row + QUIET}h1v1h-1z`
    return { path: drawn, size: count + 2 * QUIET }
  }, [text])
  return (
    <svg viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} className={css.qr} shapeRendering="crispEdges">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  )
}
