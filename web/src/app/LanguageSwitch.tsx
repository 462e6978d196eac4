// Chooses between the languages; each is named in itself and marked as such.
import { useTranslation } from 'react-i18next'
import { useBrand } from '../brand/brand'
import { LANGUAGES, setLanguage } from '../i18n'
import css from './Page.module.css'

export function LanguageSwitch() {
  const { t, i18n } = useTranslation()
  const offered = useBrand((brand) => brand.languages)
  const languages = LANGUAGES.filter((language) => offered.includes(language))
  if (languages.length < 2) return null
  return (
    <div role="group" aria-label={t('app.language')} className={css.languages}>
      {languages.map((language) => (
        <button
          key={language}
          type="button"
          lang={language}
          aria-pressed={i18n.language === language}
          onClick={() => setLanguage(language)}
          data-testid={`language-${language}`}
        >
          {t(`languages.${language}`)}
        </button>
      ))}
    </div>
  )
}
