// Languages: German first, English second. Both are small and shipped with the first bundle, so that
// switching needs no request and no text is ever missing. Owns the language preference.
import i18next from 'i18next'
import { initReactI18next } from 'react-i18next'
import { local } from '../lib/storage'
import de from './de.json'
import en from './en.json'

export const LANGUAGES = ['de', 'en'] as const
export type Language = (typeof LANGUAGES)[number]

const KEY = 'language'

/** The stored choice, else the first language of the browser that we speak, else German. */
export function preferredLanguage(stored: string | null, browser: readonly string[]): Language {
  const wanted = [stored ?? '', ...browser].map((tag) => tag.toLowerCase().split('-')[0])
  return LANGUAGES.find((language) => language === wanted.find((tag) => LANGUAGES.some((known) => known === tag))) ?? 'de'
}

/** Starts i18next; returns once texts can be read (synchronously, as both languages are bundled). */
export function startLanguages(): void {
  i18next.on('languageChanged', (language) => {
    document.documentElement.lang = language
  })
  void i18next.use(initReactI18next).init({
    resources: { de: { translation: de }, en: { translation: en } },
    lng: preferredLanguage(local.get(KEY), navigator.languages),
    fallbackLng: 'de',
    initAsync: false,
    // React escapes what it renders.
    interpolation: { escapeValue: false },
  })
}

/** Switches and remembers the language. */
export function setLanguage(language: Language): void {
  local.set(KEY, language)
  void i18next.changeLanguage(language)
}
