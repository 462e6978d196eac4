// The frame of all screens but the meeting: header with the municipality's name and the language
// switch, main part, footer with the legal links.
import { useEffect, useRef, type ReactNode } from 'react'
import { Link } from 'wouter'
import { useTranslation } from 'react-i18next'
import { useBrand } from '../brand/brand'
import { usePageTitle } from '../a11y/title'
import { LanguageSwitch } from './LanguageSwitch'
import { Mark } from './Mark'
import css from './Page.module.css'

/** Whether a screen was shown before this one. */
let arrived = false

export function Page({ title, children, narrow }: { title: string; children: ReactNode; narrow?: boolean }) {
  const { t } = useTranslation()
  const brand = useBrand()
  usePageTitle(title)
  const main = useRef<HTMLElement>(null)
  useEffect(() => {
    // What had the focus is gone with the screen before: go on reading here, not at the very top.
    if (arrived) main.current?.focus()
    arrived = true
  }, [])
  const links = [
    [brand.imprint, t('app.imprint')],
    [brand.privacy, t('app.privacy')],
    [brand.accessibility, t('app.accessibility')],
    // What we build on; written by the build.
    ['/licenses.txt', t('app.licenses')],
  ].filter((link): link is [string, string] => link[0] !== null)

  return (
    <div className={css.page}>
      <a href="#main" className={css.skip}>
        {t('app.skip')}
      </a>
      <header className={css.header}>
        <Link href="/" className={css.brand} aria-label={t('app.home', { name: brand.name })}>
          <Mark />
          <span>{brand.name}</span>
        </Link>
        <LanguageSwitch />
      </header>
      <main ref={main} id="main" tabIndex={-1} className={[css.main, narrow && css.narrow].filter(Boolean).join(' ')}>
        {children}
      </main>
      <footer className={css.footer}>
        <nav aria-label={t('app.footer')}>
          <ul role="list" className={css.links}>
            {links.map(([href, text]) => (
              <li key={text}>
                <a href={href} target="_blank" rel="noreferrer">
                  {text} <span className="visually-hidden">{t('app.newTab')}</span>
                </a>
              </li>
            ))}
          </ul>
        </nav>
      </footer>
    </div>
  )
}
