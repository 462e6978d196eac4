// What every screen has to keep to, whoever looks at it: axe-core without a violation, no sideways scrolling, targets of
// 44 px, one first heading; on a desktop, a phone and the narrowest window that has to do (WCAG 1.4.10). Keeps a picture of each.
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OUT = join(dirname(fileURLToPath(import.meta.url)), '../out');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const SCHEME = 'prefers-color-scheme';

export const PHONE = { width: 390, height: 844 };
const NARROW = { width: 320, height: 640 };

/** Until nothing moves and what a new size has changed is drawn. */
const settle = (page) => page.evaluate(async () => {
  for (let frames = 0; frames < 3; frames += 1) await new Promise((resolve) => requestAnimationFrame(resolve));
  const ending = document.getAnimations().filter((animation) => animation.effect?.getComputedTiming().iterations !== Infinity);
  await Promise.all(ending.map((animation) => animation.finished.catch(() => undefined)));
});

async function byAxe(page, rules) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((runOnly) => window.axe.run(document, { runOnly, resultTypes: ['violations'] }), rules);
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`);
}

const bySize = (page) => page.evaluate(() => {
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest('[inert]');
  const sideways = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const targets = 'button, select, textarea, summary, input:not([type=checkbox]), label:has(input[type=checkbox])';
  const small = [...(document.querySelector('dialog[open]') ?? document).querySelectorAll(targets)].filter(shown).filter((element) => {
    const { width, height } = element.getBoundingClientRect();
    return width < 44 || height < 44;
  });
  const headings = document.querySelectorAll('h1').length;
  return [
    ...(sideways > 0 ? [`scrolls sideways by ${sideways} px`] : []),
    ...small.map((element) => `smaller than 44 px: ${element.outerHTML.slice(0, 160)}`),
    ...(headings === 1 ? [] : [`${headings} first headings`]),
  ];
});

/**
 * What is wrong with the screen that `page` shows, on its own `viewport` and on a phone's; with `dark` also in dark colours (what
 * is no meeting follows the system). The page has its viewport again afterwards.
 */
export async function inspect(page, screen, { viewport, dark = false }) {
  mkdirSync(OUT, { recursive: true });
  const looks = [
    { where: 'desktop', size: viewport, rules: RULES },
    ...(dark ? [{ where: 'dark', size: viewport, dark, rules: { type: 'rule', values: ['color-contrast'] } }] : []),
    { where: 'phone', size: PHONE, rules: RULES },
    { where: 'narrow', size: NARROW },
  ];
  const found = [];
  for (const look of looks) {
    await page.setViewport(look.size);
    if (dark) await page.emulateMediaFeatures([{ name: SCHEME, value: look.dark ? 'dark' : 'light' }]);
    await settle(page);
    await page.screenshot({ path: join(OUT, `${screen}-${look.where}.png`) });
    const problems = [...(look.rules ? await byAxe(page, look.rules) : []), ...await bySize(page)];
    found.push(...problems.map((problem) => `${screen} (${look.where}): ${problem}`));
  }
  await page.setViewport(viewport);
  return found;
}
