// The meeting's dark stage while the connection is made: the place where pictures will be, and a word.
import { useTranslation } from 'react-i18next'
import { usePageTitle } from '../a11y/title'
import css from './Connecting.module.css'

export function Connecting({ room }: { room: string }) {
  const { t } = useTranslation()
  usePageTitle(t('call.title', { room }))
  return (
    <main className={css.stage} data-theme="dark" data-testid="connecting">
      <h1 className="visually-hidden">{t('call.title', { room })}</h1>
      <div className={css.tile}>
        <p>{t('call.connecting', { room })}</p>
      </div>
    </main>
  )
}
