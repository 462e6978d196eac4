import { expect, it } from 'vitest'
import { withRoom } from './recent'

it('keeps the five newest rooms, each once', () => {
  const rooms = ['a', 'b', 'c', 'a', 'd', 'e', 'f'].reduce<ReturnType<typeof withRoom>>((list, room, at) => withRoom(list, room, at), [])
  expect(rooms.map((recent) => recent.room)).toEqual(['f', 'e', 'd', 'a', 'c'])
  expect(rooms[3]).toEqual({ room: 'a', at: 3 })
})
