// The two live regions of the page, see announcer.ts.
import { useEffect, useState } from 'react'
import { announcer } from './announcer'

export function LiveRegions() {
  const [texts, setTexts] = useState({ polite: '', assertive: '' })
  useEffect(() => announcer.connect((urgency, text) => setTexts((before) => ({ ...before, [urgency]: text }))), [])
  return (
    <div className="visually-hidden">
      <div aria-live="polite" data-testid="announcer-polite">{texts.polite}</div>
      <div aria-live="assertive" data-testid="announcer-assertive">{texts.assertive}</div>
    </div>
  )
}
