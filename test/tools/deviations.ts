/**
 * `npm run deviations`: lists the `DEVIATION:` comments of the sources in ARCHITECTURE.md, so that a reader finds all of
 * them in one place. A test fails when the list is not what this writes.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesBelow, ROOT, readText } from './source.ts';

const FILE = 'ARCHITECTURE.md';
const BEGIN = '<!-- deviations -->\n';
const END = '<!-- /deviations -->';

/** The text after the mark, to the end of the comment or the next empty comment line. */
export function deviationsIn(text: string): string[] {
  return [...text.matchAll(/\bDEVIATION:/g)].map((match) => {
    const rest = text.slice(match.index + match[0].length);
    const lineComment = /^[^\n]*?\/\/|^\s*\/\//.test(text.slice(text.lastIndexOf('\n', match.index) + 1, match.index));
    const lines: string[] = [];
    for (const [index, line] of rest.split('\n').entries()) {
      if (lineComment && index > 0 && !/^\s*\/\//.test(line)) break;
      const end = line.indexOf('*/');
      const bare = (end < 0 ? line : line.slice(0, end)).replace(index === 0 ? /^/ : /^\s*(\*|\/\/)?/, '').trim();
      if (bare === '' || /\bDEVIATION:/.test(bare) || (index > 0 && bare.startsWith('@'))) break;
      lines.push(bare);
      if (end >= 0 && !lineComment) break;
    }
    return lines.join(' ');
  });
}

const listed = (): string[] =>
  filesBelow('src', '.ts').flatMap((path) =>
    deviationsIn(readText(path)).map((text) => `- \`${path.slice('src/'.length)}\`: ${text}\n`),
  );

/** ARCHITECTURE.md as it has to be. */
export function withDeviations(): string {
  const document = readText(FILE);
  const [before, rest = ''] = document.split(BEGIN);
  const after = rest.slice(rest.indexOf(END));
  return `${before}${BEGIN}${listed().join('')}${after}`;
}

if (import.meta.main) {
  writeFileSync(join(ROOT, FILE), withDeviations());
  console.log(`${FILE}: ${listed().length} deviations`);
}
