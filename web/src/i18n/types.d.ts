// Makes `t('…')` know every key of de.json: a misspelt key does not compile.
import type de from './de.json'

declare module 'i18next' {
  interface CustomTypeOptions {
    resources: { translation: typeof de }
  }
}
