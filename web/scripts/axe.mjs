// Walks through every screen of a running server in Chromium and checks each: axe-core without violations,
// no horizontal scrolling, targets of 44 px, a title of its own, no error in the console (a violation of the
// content security policy is one) and no request to another host.
//
// usage: node scripts/axe.mjs [URL]        (default http://127.0.0.1:7880; CHROMIUM names the browser)
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const base = (process.argv[2] ?? 'http://127.0.0.1:7880').replace(/\/$/, '')

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns', '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required',
]
const VIEWS = [
  { name: 'desktop light', viewport: { width: 1440, height: 900 }, colorScheme: 'light' },
  { name: 'desktop dark', viewport: { width: 1440, height: 900 }, colorScheme: 'dark' },
  { name: '320 px', viewport: { width: 320, height: 640 }, colorScheme: 'light', hasTouch: true },
]
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

const problems = []
let checked = 0

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS })

async function open(view, init) {
  const context = await browser.newContext({ ...view, locale: 'de-DE', permissions: ['camera', 'microphone'] })
  const page = await context.newPage()
  const note = (text) => problems.push(`${view.name}: ${text}`)
  page.on('pageerror', (error) => note(`script error: ${error.message}`))
  page.on('console', (message) => {
    // A refused request is what some screens are about; LiveKit reports channels that end with the meeting.
    const expected = /^Failed to load resource|^DataChannel error|data channel '\w+' closed unexpectedly/.test(message.text())
    if (message.type() === 'error' && !expected) note(`console: ${message.text()}`)
  })
  page.on('request', (request) => {
    if (/^(https?|wss?):/.test(request.url()) && new URL(request.url()).host !== new URL(base).host) note(`foreign request: ${request.url()}`)
  })
  if (init) await page.addInitScript(init)
  return page
}

/** The screen as it is now. `titles` collects the titles of screens that must differ. */
async function check(page, view, screen, titles) {
  await page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity).map((a) => a.finished.catch(() => undefined))))
  await page.evaluate(axe)
  const { violations } = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags, resultTypes: ['violations'] }), RULES)
  const where = `${view.name}, ${screen}`
  for (const { id, help, nodes } of violations) problems.push(`${where}: ${id}: ${help}\n    ${nodes.map((node) => node.html.slice(0, 160)).join('\n    ')}`)
  const { overflow, small, title, headings } = await page.evaluate(() => {
    const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest('[inert]')
    const dialog = document.querySelector('dialog[open]') ?? document
    return {
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      small: [...dialog.querySelectorAll('button, select, textarea, summary, input:not([type=checkbox]), label:has(input[type=checkbox])')]
        .filter(shown)
        .filter((element) => element.getBoundingClientRect().height < 44 || element.getBoundingClientRect().width < 44)
        .map((element) => element.outerHTML.slice(0, 120)),
      title: document.title,
      headings: document.querySelectorAll('h1').length,
    }
  })
  if (overflow > 0) problems.push(`${where}: scrolls sideways by ${overflow} px`)
  for (const element of small) problems.push(`${where}: smaller than 44 px: ${element}`)
  if (headings !== 1) problems.push(`${where}: ${headings} h1`)
  if (titles) {
    const other = titles.get(title)
    if (other) problems.push(`${where}: has the same title as ${other}: ${title}`)
    titles.set(title, screen)
  }
  checked += 1
}

const fails = (name) => `navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('test', '${name}') }`
const insecure = `Object.defineProperty(navigator, 'mediaDevices', { value: undefined }); Object.defineProperty(window, 'isSecureContext', { value: false })`

async function walk(view) {
  const titles = new Map()
  const page = await open(view)
  await page.goto(`${base}/`)
  await page.getByTestId('open-submit').waitFor()
  await check(page, view, 'start', titles)
  await page.getByTestId('join-submit').click()
  await page.getByTestId('open-named').click()
  await page.getByTestId('open-name').fill('Ä'.repeat(60))
  await check(page, view, 'start with mistakes')
  await page.goto(`${base}/nowhere`)
  await page.getByTestId('message-heading').waitFor()
  await check(page, view, 'not found', titles)

  for (const [screen, init] of [['denied', fails('NotAllowedError')], ['no devices', fails('NotFoundError')], ['busy', fails('NotReadableError')]]) {
    const other = await open(view, init)
    await other.goto(`${base}/r/axe`)
    await other.getByTestId('media-retry').waitFor()
    await check(other, view, `pre-join, ${screen}`)
    await other.context().close()
  }
  const plain = await open(view, insecure)
  await plain.goto(`${base}/r/axe`)
  await plain.getByTestId('message-heading').waitFor()
  await check(plain, view, 'insecure')
  await plain.context().close()

  await page.goto(`${base}/`)
  await page.getByTestId('open-submit').click()
  await page.getByTestId('preview').waitFor()
  await check(page, view, 'pre-join', titles)
  await page.getByTestId('prejoin-join').click()
  await check(page, view, 'pre-join without name')
  await page.getByTestId('name-input').fill('Dr. Karin von der Heide')
  await page.getByTestId('prejoin-join').click()
  await page.getByTestId('alone-link').waitFor()
  await check(page, view, 'meeting, alone', titles)

  const room = new URL(page.url()).pathname
  const guest = await open(view)
  await guest.goto(base + room)
  await guest.getByTestId('name-input').fill('Ayşe Yılmaz')
  await guest.getByTestId('prejoin-join').click()
  await guest.getByTestId('call').waitFor()
  await page.locator('[data-testid=tile][data-picture=live]').nth(1).waitFor()
  await check(page, view, 'meeting, grid')

  const narrow = view.viewport.width <= 960
  /** A control of the bar, or on small screens behind "more". */
  const press = async (name) => {
    if (!narrow) return page.getByTestId(`tool-${name}`).click()
    await page.getByTestId('tool-more').click()
    await page.getByTestId(`more-${name}`).click()
  }
  await press('view')
  await check(page, view, 'meeting, speaker view')
  await press('view')
  if (narrow) {
    await page.getByTestId('tool-more').click()
    await check(page, view, 'more')
    await page.keyboard.press('Escape')
  }
  await press('people')
  await page.getByTestId('person-actions').click()
  await check(page, view, 'people')
  await page.getByTestId('action-remove').click()
  await check(page, view, 'remove?')
  await page.keyboard.press('Escape')
  await page.getByTestId('action-mute').click()
  await guest.getByTestId('banner-trouble').waitFor()
  await check(guest, view, 'muted by a moderator')
  await page.getByTestId('panel-close').click()

  await page.getByTestId('tool-chat').click()
  await check(page, view, 'chat, empty')
  await page.getByTestId('chat-input').fill('Tagesordnung: https://musterstadt.example/rat.pdf')
  await page.getByTestId('chat-send').click()
  await page.getByTestId('chat-message').waitFor()
  await check(page, view, 'chat')
  await page.getByTestId('panel-close').click()
  for (const dialog of ['invite', 'settings']) {
    await press(dialog)
    await check(page, view, dialog)
    await page.keyboard.press('Escape')
  }
  await page.getByTestId('tool-leave').click()
  await check(page, view, 'leave?')
  await page.getByTestId('leave-all').click()
  await page.getByTestId('end-again').waitFor()
  await check(page, view, 'end', titles)
  await guest.getByTestId('end-again').waitFor()
  await check(guest, view, 'end for a guest')
  await guest.context().close()
  await page.context().close()
}

try {
  for (const view of VIEWS) await walk(view)
} finally {
  await browser.close()
}
for (const problem of problems) console.error(problem)
console.log(`${checked} screens checked with axe-core, ${problems.length} problems`)
if (problems.length > 0) process.exit(1)
