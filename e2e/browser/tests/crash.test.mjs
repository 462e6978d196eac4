// A meeting of thirty, of whom 28 are `ratssaal load` and two are pages: the server that all but one of them sit on is killed.
// They are back soon, and the meeting is what it was.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { startFront } from '../lib/front.mjs';
import { startLoad } from '../lib/load.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { ours, startBridge } from '../lib/server.mjs';
import { muteTrack, stateOf } from '../lib/state.mjs';
import { steps } from '../lib/steps.mjs';
import { roomService } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

/** How long media may be away from 95 % of the load client's people, ms: under three seconds on a machine with nothing else to do. */
const AWAY = Number(process.env.E2E_AWAY_MS ?? 5000);
/** What a picture or a voice may stand still between the pages, ms. */
const KILL = Number(process.env.E2E_KILL_MS ?? 8000);
const [PUBLISH, WATCH] = [4, 24];
const LOAD = PUBLISH + WATCH;
/** The load client's name for its first room. */
const ROOM = 'dreissig-0';
const member = (number) => `load-${String(number).padStart(5, '0')}`;
const ACTIVE = 'ratssaal_participants{state="active"}';

describe('a crash in a meeting of thirty', { skip: !ours && 'this is about ours' }, () => {
  const step = steps();
  let redis, servers, front, pages, browser, load, anna, bela;

  before(async () => {
    [redis, pages, browser] = await Promise.all([startRedis(), servePages(), launch('chromium')]);
    // Who comes to a site sits there.
    servers = await Promise.all(['eins', 'zwei'].map((name) => startBridge(redis, name, { RATSSAAL_SITE__NAME: name, RATSSAAL_ROOM__SEATS: '60' })));
    front = await startFront(servers);
    anna = await Participant.open(browser, pages, { identity: 'anna', hue: 0, hertz: 440, v1: false });
    bela = await Participant.open(browser, pages, { identity: 'bela', hue: 120, hertz: 1000, v1: true });
  });

  after(async () => {
    await load?.stop().catch(() => {});
    await browser?.close();
    await front?.stop();
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await pages?.stop();
    await redis?.stop();
  });

  afterEach((context) => {
    if (!context.error) return;
    context.diagnostic([anna, bela].map((one) => `${one?.identity}: ${one?.trouble.splice(0).join('; ')}`).join(' | '));
    for (const server of servers ?? []) context.diagnostic(server.log().slice(-4000));
  });

  const meet = (ms) => Promise.all([[anna, bela], [bela, anna]]
    .map(async ([one, other]) => { await one.sees(other, { ms }); await one.hears(other, { ms }); }));
  const change = (method, body) => roomService(servers[1], method, { room: ROOM, ...body });

  /** Everybody is there, on these servers so many. */
  const there = (seats, ms) => until('everybody is there', async () => {
    assert.deepEqual(await Promise.all(seats.map(([server]) => server.metric(ACTIVE))), seats.map(([, people]) => people));
    return true;
  }, ms);

  step('thirty meet on two servers', async () => {
    const people = ['--room', 'dreissig', '--publishers', PUBLISH, '--subscribers', WATCH, '--tiles', 4];
    load = startLoad(front, [...people, '--ramp', 10, '--settle', '0s', '--duration', '10m']);
    await there([[servers[0], LOAD]], 60_000);
    for (const [one, server] of [[anna, front], [bela, servers[1]]]) {
      await one.join(server, ROOM);
      await one.publish({ width: 640, height: 360 });
    }
    await there([[servers[0], LOAD + 1], [servers[1], 1]], 20_000);
    await meet(40_000);
  });

  let known;
  step('a moderator gives them names and roles, and mutes', async () => {
    await change('UpdateRoomMetadata', { metadata: 'Haushaltssitzung' });
    for (const one of [anna, bela]) {
      await one.call('publishMicrophone', { hertz: one.hertz, source: 'screen_share_audio' });
      await muteTrack(servers[1], ROOM, one.identity, 'SCREEN_SHARE_AUDIO');
      await change('UpdateParticipant', {
        identity: one.identity, name: `${one.identity} aus dem Rat`, metadata: 'Vorsitz', attributes: { hand: 'oben' },
        permission: { can_publish: true, can_subscribe: true, can_publish_data: one === bela, can_update_metadata: true },
      });
    }
    // Nothing else of theirs changes: no permission, whose change brings a new token anyway.
    const guest = member(LOAD - 1);
    await change('UpdateParticipant', { identity: guest, name: 'Gast des Landrats', attributes: { hand: 'oben' } });
    known = await until('all of that is known', async () => {
      const state = await stateOf(servers[1], ROOM);
      assert.equal(state.people.anna.tracks.find(({ source }) => source === 'SCREEN_SHARE_AUDIO').muted, true);
      assert.equal(state.people.bela.tracks.find(({ source }) => source === 'SCREEN_SHARE_AUDIO').muted, true);
      return state;
    });
    assert.equal(Object.keys(known.people).length, LOAD + 2);
    assert.deepEqual([known.people.anna.permission.canPublishData, known.people.bela.permission.canPublishData], [undefined, true]);
    assert.equal(known.room.metadata, 'Haushaltssitzung');
    assert.equal(known.people[guest].name, 'Gast des Landrats');
  });

  step('the server of nearly all is killed: they come back', async () => {
    await Promise.all([anna, bela].map((one) => one.call('watchGaps')));
    await servers[0].kill();
    await there([[servers[1], LOAD + 2]], 30_000);
    await meet(30_000);
    const gaps = [];
    for (const [one, other] of [[anna, bela], [bela, anna]]) {
      const all = await one.call('gaps');
      console.log(`# kill: ${one.identity} waited for ${other.identity} at most, ms: picture ${all[`${other.identity}/camera`]}, voice ${all[`${other.identity}/microphone`]}`);
      gaps.push(all[`${other.identity}/camera`], all[`${other.identity}/microphone`]);
      assert.equal(await one.call('count', 'disconnected'), 0, `${one.identity} is in the meeting`);
    }
    assert.ok(gaps.every((gap) => gap < KILL), `between the pages something stood still for ${gaps} ms`);
  });

  step('the meeting is what it was', async () => {
    const state = await until('everybody has been announced again', async () => {
      const now = await stateOf(servers[1], ROOM);
      assert.deepEqual({ room: now.room, people: now.people }, { room: known.room, people: known.people });
      return now;
    }, 5000);
    assert.deepEqual(state.sids.bela, known.sids.bela, 'whose server is alive stays the same');
    assert.equal(await bela.call('count', 'reconnecting'), 0, 'bela has begun nothing anew');
    assert.equal(await anna.call('sid'), state.sids.anna[0]);
  });

  step('media is back for all of the load client', async () => {
    const { joins } = await load.stop();
    console.log(`# kill: ${joins.rejoined} of the load client came back, media away, ms: ${JSON.stringify(joins.away_ms)}`);
    assert.deepEqual([joins.failed, joins.connected, joins.rejoined, joins.away_ms.count], [0, LOAD, LOAD, LOAD], JSON.stringify(joins));
    assert.ok(joins.away_ms.p95 < AWAY, `media was away for ${joins.away_ms.p95} ms`);
  });
});
