import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { again } from './again'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Fails so many times and then works. */
function failing(times: number) {
  let attempts = 0
  return vi.fn<() => Promise<number>>(async () => {
    attempts += 1
    if (attempts <= times) throw new Error(`attempt ${attempts}`)
    return attempts
  })
}

describe('again', () => {
  it('tries once more what may pass', async () => {
    const attempt = failing(2)
    const result = again(attempt, () => true)
    await vi.advanceTimersByTimeAsync(1499)
    expect(attempt).toHaveBeenCalledTimes(2)
    await vi.advanceTimersByTimeAsync(1)
    await expect(result).resolves.toBe(3)
  })

  it('takes any other failure for final', async () => {
    const attempt = failing(2)
    await expect(again(attempt, (error) => !String(error).includes('attempt 1'))).rejects.toThrow('attempt 1')
    expect(attempt).toHaveBeenCalledTimes(1)
  })

  it('gives up within a quarter of a minute', async () => {
    const failure = again(failing(Infinity), () => true).catch(String)
    await vi.advanceTimersByTimeAsync(15_000)
    expect(await failure).toBe('Error: attempt 5')
  })

  it('does not go on when one attempt takes as long', async () => {
    const attempt = vi.fn<() => Promise<void>>(async () => {
      await new Promise((resume) => setTimeout(resume, 15_000))
      throw new Error('too late')
    })
    const failure = again(attempt, () => true).catch(String)
    await vi.advanceTimersByTimeAsync(15_000)
    expect(await failure).toBe('Error: too late')
    expect(attempt).toHaveBeenCalledTimes(1)
  })
})
