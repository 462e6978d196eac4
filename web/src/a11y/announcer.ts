// Says to assistive technology what happens on screen. Two live regions for the whole page, one polite
// and one assertive; messages are collected for a moment, so that ten people joining are one sentence
// and the same news is not read twice.

export type Urgency = 'polite' | 'assertive'

/** How long polite news are collected before they are said together. */
const COLLECT_MS = 600
/** Regions are emptied afterwards, so that nobody finds old news when reading through the page. */
const CLEAR_MS = 8_000

type Listener = (urgency: Urgency, text: string) => void

export class Announcer {
  #waiting: string[] = []
  #timer: ReturnType<typeof setTimeout> | undefined
  #clearing: ReturnType<typeof setTimeout> | undefined
  #listener: Listener | undefined

  /** Connects the regions; returns how to disconnect them. */
  connect(listener: Listener): () => void {
    this.#listener = listener
    return () => {
      this.#listener = undefined
      clearTimeout(this.#timer)
      clearTimeout(this.#clearing)
      this.#timer = undefined
      this.#waiting = []
    }
  }

  /** Polite news wait for a pause in speech; assertive ones interrupt. */
  announce(text: string, urgency: Urgency = 'polite'): void {
    if (urgency === 'assertive') {
      this.#say('assertive', text)
      return
    }
    if (!this.#waiting.includes(text)) this.#waiting.push(text)
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#say('polite', this.#waiting.splice(0).join(' '))
    }, COLLECT_MS)
  }

  #say(urgency: Urgency, text: string): void {
    this.#listener?.(urgency, text)
    clearTimeout(this.#clearing)
    this.#clearing = setTimeout(() => {
      this.#listener?.('polite', '')
      this.#listener?.('assertive', '')
    }, CLEAR_MS)
  }
}

export const announcer = new Announcer()
export const announce = (text: string, urgency?: Urgency) => announcer.announce(text, urgency)
