// Real browsers: Debian's Chromium and Firefox ESR, headless, with a profile of their own, driven by puppeteer-core.
import { existsSync } from 'node:fs';
import puppeteer from 'puppeteer-core';

const CHROMIUM = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
  '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns', '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required', '--accept-lang=de-DE',
];

const FIREFOX = {
  'intl.accept_languages': 'de-DE',
  'media.navigator.permission.disabled': true,
  'media.navigator.streams.fake': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.peerconnection.ice.loopback': true,
  // No OpenH264 download, no telemetry, no portal detection: nothing but the pages under test.
  'media.gmp-manager.updateEnabled': false,
  'media.gmp-gmpopenh264.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'app.update.enabled': false,
  'toolkit.telemetry.enabled': false,
};

const PATHS = {
  chromium: [process.env.CHROMIUM_BIN, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
  firefox: [process.env.FIREFOX_BIN, '/usr/bin/firefox-esr', '/usr/bin/firefox'],
};

function executable(kind) {
  const path = PATHS[kind].filter(Boolean).find((candidate) => existsSync(candidate));
  if (!path) throw new Error(`No ${kind}: apt-get install --no-install-recommends ${kind === 'firefox' ? 'firefox-esr' : kind} (or set ${kind.toUpperCase()}_BIN).`);
  return path;
}

/**
 * Starts a browser (`chromium` or `firefox`) with a fresh profile; Firefox's fake microphone gives `hertz`; `args` go to Chromium,
 * and those of ours that begin with one of `without` do not.
 */
export async function launch(kind, { width = 1280, height = 800, hertz = 1000, args = [], without = [] } = {}) {
  const common = { executablePath: executable(kind), headless: true, defaultViewport: { width, height }, protocolTimeout: 60_000 };
  return kind === 'firefox'
    ? puppeteer.launch({ ...common, browser: 'firefox', extraPrefsFirefox: { ...FIREFOX, 'media.navigator.audio.fake_frequency': hertz } })
    : puppeteer.launch({ ...common, args: [...CHROMIUM.filter((flag) => !without.some((start) => flag.startsWith(start))), ...args] });
}
