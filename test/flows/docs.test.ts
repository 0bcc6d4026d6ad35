/** The pages of docs/flows are those that a run makes now. */
import { expect, test } from 'vitest';
import { FOLDER, flowPages } from '../tools/flow-docs.ts';
import { filesBelow, readText } from '../tools/source.ts';

test('docs/flows is up to date', async () => {
  const pages = await flowPages();
  expect(filesBelow(FOLDER)).toEqual([...pages.keys()].sort());
  for (const [path, text] of pages) {
    expect(readText(path) === text, `${path} is out of date: npm run flows`).toBe(true);
  }
});
