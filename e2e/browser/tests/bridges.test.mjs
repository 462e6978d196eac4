// Three pages whose seats are on three servers see and hear each other; then one of the servers is drained and another one is
// killed. Every picture and every voice between two of them is watched all the time, and the meeting is the same afterwards.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe } from 'node:test';
import { launch } from '../lib/browsers.mjs';
import { startFront } from '../lib/front.mjs';
import { servePages } from '../lib/pages.mjs';
import { Participant } from '../lib/participant.mjs';
import { startRedis } from '../lib/redis.mjs';
import { orderBridge, ours, startBridge } from '../lib/server.mjs';
import { muteTrack, stateOf } from '../lib/state.mjs';
import { steps } from '../lib/steps.mjs';
import { roomService } from '../lib/token.mjs';
import { until } from '../lib/wait.mjs';

/** What a picture or a voice may stand still, ms: under one second and under five on a machine with nothing else to do. */
const DRAIN = Number(process.env.E2E_DRAIN_MS ?? 5000);
const KILL = Number(process.env.E2E_KILL_MS ?? 8000);
const ROOM = 'verteilt';
const NAMES = ['eins', 'zwei', 'drei'];
const PEOPLE = [
  { identity: 'anna', hue: 0, hertz: 440, v1: true },
  { identity: 'bert', hue: 120, hertz: 660, v1: false },
  { identity: 'cleo', hue: 240, hertz: 880, v1: true },
];
const ACTIVE = 'ratssaal_participants{state="active"}';

describe('one meeting on three servers', { skip: !ours && 'this is about ours' }, () => {
  const step = steps();
  let redis, servers, fronts, pages, browsers, people;

  before(async () => {
    [redis, pages] = await Promise.all([startRedis(), servePages()]);
    const settings = { RATSSAAL_ROOM__SEATS: '5', RATSSAAL_MEDIA__WORKERS: '1' };
    servers = await Promise.all(NAMES.map((name) => startBridge(redis, name, { RATSSAAL_SITE__NAME: name, ...settings })));
    // Each comes to a server of its own, and to the next ones when that has died. Who comes to a site sits there.
    fronts = await Promise.all(servers.map((_, number) => startFront([...servers.slice(number), ...servers.slice(0, number)])));
    browsers = await Promise.all(PEOPLE.map(() => launch('chromium')));
    people = await Promise.all(PEOPLE.map((who, number) => Participant.open(browsers[number], pages, who)));
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await Promise.all((fronts ?? []).map((front) => front.stop()));
    await Promise.all((servers ?? []).map((server) => server.stop()));
    await pages?.stop();
    await redis?.stop();
  });

  afterEach((context) => {
    if (!context.error) return;
    context.diagnostic((people ?? []).map(({ identity, trouble }) => `${identity}: ${trouble.splice(0).join('; ')}`).join(' | '));
    for (const server of servers ?? []) context.diagnostic(server.log().slice(-3000));
  });

  /** A metric's value at a server, all labels together. */
  const metric = async (server, name) => {
    const text = await (await fetch(`${server.http}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  };

  /** How many sit on each of some servers. */
  const seated = (...some) => Promise.all(some.map((server) => server.metric(ACTIVE)));

  /** Everybody sees and hears everybody else. */
  const meet = (ms) => Promise.all(people.flatMap((who) => people.filter((other) => other !== who)
    .map(async (other) => { await who.sees(other, { ms }); await who.hears(other, { ms }); })));

  /** The messages of a conversation that somebody got, in the order in which they came. */
  async function chat(who, about) {
    const texts = (await who.call('events')).filter(({ event }) => event === 'text').map(({ text }) => text);
    return texts.filter((text) => text.startsWith(`${about} `));
  }

  /** Waits until somebody got these, each once. */
  const reads = (who, about, wanted) => until(`${who.identity} reads all`, async () => {
    assert.deepEqual(await chat(who, about), wanted);
    return true;
  });

  const change = (method, body) => roomService(servers[2], method, { room: ROOM, ...body });

  /**
   * Lets `harm` happen to the meeting, waits for `over` and for everybody to see and hear everybody again. Meanwhile cleo talks to
   * all, and her server, which outlives it, is asked for the list of participants. `longest`: how long something stood still, ms.
   */
  async function live(what, { harm, over }) {
    await Promise.all(people.map((one) => one.call('watchGaps')));
    const said = [];
    const missing = [];
    let running = true;
    const repeat = async (ms, act) => { while (running) { await act(); await new Promise((next) => setTimeout(next, ms)); } };
    const beside = [
      repeat(200, async () => {
        said.push(`${what} ${said.length}`);
        await people[2].call('sendText', said.at(-1));
      }),
      repeat(100, async () => {
        const there = (await change('ListParticipants')).participants.map(({ identity }) => identity).sort();
        if (there.join() !== 'anna,bert,cleo') missing.push(there.join());
      }),
    ];
    try {
      await harm();
      await over();
      await meet(30_000);
    } finally {
      running = false;
      await Promise.all(beside);
    }
    let longest = 0;
    for (const one of people) {
      const [gaps, counts] = await Promise.all([one.call('gaps'), one.call('counts')]);
      const places = people.filter((other) => other !== one).flatMap(({ identity }) => [`${identity}/camera`, `${identity}/microphone`]);
      for (const place of places) assert.ok(counts[place] > 0, `${one.identity} got nothing of ${place}: ${JSON.stringify({ gaps, counts })}`);
      console.log(`# ${what}: ${one.identity} got (and waited at most, ms) ${places.map((place) => `${place} ${counts[place]} (${gaps[place]})`).join(', ')}`);
      longest = Math.max(longest, ...places.map((place) => gaps[place]));
    }
    console.log(`# ${what}: at most ${longest} ms`);
    assert.deepEqual(missing, [], 'nobody is ever out of the meeting');
    for (const one of people) assert.equal(await one.call('count', 'disconnected'), 0, `${one.identity} is in the meeting`);
    return { longest, said };
  }

  step('each sits on a server of its own', async () => {
    for (const [number, who] of people.entries()) {
      await who.join(fronts[number], ROOM);
    }
    for (const server of servers) await until('one participant sits here', async () => (await server.metric(ACTIVE)) === 1, 5000);
  });

  step('they see and hear each other', async () => {
    for (const who of people) await who.publish({ width: 640, height: 360 });
    await meet(40_000);
    for (const server of servers) await until('media goes from here to the others', async () => (await metric(server, 'ratssaal_relay_sent_packets_total')) > 50, 10_000);
  });

  let known;
  step('a moderator names them, takes and gives, and mutes a track of each', async () => {
    await change('UpdateRoomMetadata', { metadata: 'Bauausschuss' });
    for (const [number, { identity, hue, hertz }] of people.entries()) {
      await people[number].call('publishMicrophone', { hertz, source: 'screen_share_audio' });
      await muteTrack(servers[2], ROOM, identity, 'SCREEN_SHARE_AUDIO');
      await change('UpdateParticipant', {
        identity, name: `${identity} aus dem Rat`, metadata: `Platz ${hertz}`, attributes: { fraktion: `f${hue}` },
        permission: { can_publish: true, can_subscribe: true, can_publish_data: true, can_update_metadata: identity !== 'cleo' },
      });
      await people[number].call('sendText', `vorher ${number}`);
      for (const other of people) if (other !== people[number]) await until('it is read', async () => (await chat(other, 'vorher')).at(-1) === `vorher ${number}`);
    }
    known = await until('the tracks are muted', async () => {
      const state = await stateOf(servers[2], ROOM);
      for (const { tracks } of Object.values(state.people)) {
        assert.deepEqual(tracks.map(({ source, muted }) => (muted ? `${source} muted` : source)), ['CAMERA', 'MICROPHONE', 'SCREEN_SHARE_AUDIO muted']);
      }
      return state;
    });
    for (const [identity, { name, permission }] of Object.entries(known.people)) {
      assert.equal(name, `${identity} aus dem Rat`);
      assert.equal(permission.canUpdateMetadata === true, identity !== 'cleo');
    }
  });

  step('one is drained: who sat there goes on elsewhere, as the same', async () => {
    const { longest, said } = await live('drain', {
      harm: () => orderBridge(redis, 'drain', 'eins'),
      over: () => until('nobody sits there any more', async () => {
        const [eins, zwei, drei] = await seated(...servers);
        assert.deepEqual([eins, zwei + drei], [0, 3]);
        return true;
      }),
    });
    assert.deepEqual(await stateOf(servers[2], ROOM), known);
    for (const who of people) {
      assert.equal(await who.call('sid'), known.sids[who.identity][0], `${who.identity}'s stay goes on`);
      assert.equal(await who.call('count', 'reconnecting'), 0, 'nothing was begun anew');
    }
    for (const who of people.slice(0, 2)) await reads(who, 'drain', said);
    assert.ok(longest < DRAIN, `something stood still for ${longest} ms`);
  });

  step('another one is killed: who sat there comes back with all that was theirs', async () => {
    const { longest } = await live('kill', {
      harm: () => servers[1].kill(),
      over: () => until('everybody sits on the last one', async () => {
        assert.deepEqual(await seated(servers[0], servers[2]), [0, 3]);
        return true;
      }, 30_000),
    });
    const state = await stateOf(servers[2], ROOM);
    assert.deepEqual({ ...state, sids: null }, { ...known, sids: null });
    assert.deepEqual(state.sids.cleo, known.sids.cleo, 'whose server is alive stays the same');
    for (const who of people) assert.equal(await who.call('sid'), state.sids[who.identity][0]);
    assert.equal(await people[2].call('count', 'reconnecting'), 0, 'cleo has begun nothing anew');
    assert.ok((await people[1].call('count', 'reconnecting')) > 0, 'bert has');
    // What was said before is there once, what is said now comes once.
    for (const [number, who] of people.entries()) {
      await who.call('sendText', `danach ${number}`);
      for (const other of people) if (other !== who) await until('it is read', async () => (await chat(other, 'danach')).at(-1) === `danach ${number}`);
    }
    for (const [number, who] of people.entries()) {
      for (const about of ['vorher', 'danach']) await reads(who, about, [0, 1, 2].filter((other) => other !== number).map((other) => `${about} ${other}`));
    }
    assert.ok(longest < KILL, `something stood still for ${longest} ms`);
  });
});
