// The frame of what opens beside the stage. The focus moves in when a person opens it, and back to the
// button when it closes.
import { useEffect, useId, useRef, type ReactNode } from 'react'
import { X } from 'lucide-react'
import { useTranslation } from 'react-i18next'
import { Button } from '../ui/Button'
import { useCall } from './context'
import { closePanel } from './panel'
import css from './Panel.module.css'

export function PanelFrame({ heading, children, testid }: { heading: string; children: ReactNode; testid: string }) {
  const { t } = useTranslation()
  const { screen } = useCall()
  const id = useId()
  const ref = useRef<HTMLHeadingElement>(null)
  useEffect(() => ref.current?.focus(), [])
  return (
    <aside className={css.panel} aria-labelledby={id} data-region="panel" tabIndex={-1} data-testid={testid}>
      <div className={css.head}>
        <h2 id={id} ref={ref} tabIndex={-1}>
          {heading}
        </h2>
        <Button kind="quiet" icon={X} iconOnly onClick={() => closePanel(screen)} data-testid="panel-close">
          {t('app.close')}
        </Button>
      </div>
      {children}
    </aside>
  )
}
