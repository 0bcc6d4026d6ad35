/**
 * Reads TypeScript sources just well enough for the repository's own tests: the files of a folder, a file's imports, and
 * its code without comments and texts. Not a parser: no file here uses syntax that would mislead it.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** All files below a folder of the repository, as paths relative to its root, sorted. */
export function filesBelow(folder: string, ends = ''): string[] {
  const top = join(ROOT, folder);
  if (!existsSync(top)) return [];
  return readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ends))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .filter((path) => !path.includes('node_modules/'))
    .sort();
}

export const readText = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

const KEEP_LINES = (text: string): string => text.replace(/[^\n]/g, ' ');

/**
 * The code with comments and the contents of texts blanked out; line numbers stay. Template literals are blanked as a whole
 * but for the expressions in them.
 */
export function bareCode(text: string): string {
  let out = '';
  let at = 0;
  // Depth of braces at which each open template expression ends.
  const templates: number[] = [];
  let depth = 0;
  const skipTemplate = (): void => {
    while (at < text.length && text[at] !== '`') {
      if (text.startsWith('${', at)) {
        out += '  ';
        at += 2;
        templates.push(depth);
        return;
      }
      const step = text[at] === '\\' ? 2 : 1;
      out += KEEP_LINES(text.slice(at, at + step));
      at += step;
    }
    out += '`';
    at++;
  };
  while (at < text.length) {
    const rest = text.slice(at, at + 2);
    const blank = (length: number): void => {
      out += KEEP_LINES(text.slice(at, at + length));
      at += length;
    };
    const c = text[at] ?? '';
    if (rest === '//') {
      const end = text.indexOf('\n', at);
      blank((end < 0 ? text.length : end) - at);
    } else if (rest === '/*') {
      blank(text.indexOf('*/', at) + 2 - at);
    } else if (c === "'" || c === '"') {
      let end = at + 1;
      while (end < text.length && text[end] !== c) end += text[end] === '\\' ? 2 : 1;
      out += c;
      at++;
      blank(end - at);
      out += c;
      at++;
    } else if (c === '`') {
      out += c;
      at++;
      skipTemplate();
    } else if (c === '/' && /[(=,:[!&|?{};\n]\s*$/.test(out.slice(-40))) {
      // A regular expression: only where a value may start.
      const match = /^\/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n])+\/[a-z]*/.exec(text.slice(at));
      blank(match?.[0].length ?? 1);
    } else {
      if (c === '{') depth++;
      if (c === '}') {
        if (templates.at(-1) === depth) {
          templates.pop();
          out += ' ';
          at++;
          skipTemplate();
          continue;
        }
        depth--;
      }
      out += c;
      at++;
    }
  }
  return out;
}

export interface Import {
  /** The file that imports, and the line. */
  readonly from: string;
  readonly line: number;
  /** As written. */
  readonly specifier: string;
  /** Path relative to the root for a relative import; null for a package. */
  readonly target: string | null;
  /** Erased before the code runs. */
  readonly typeOnly: boolean;
}

/** The imports and re-exports of one file, dynamic ones and worker entry points by URL included. */
export function importsOf(path: string, text: string = readText(path)): Import[] {
  const bare = bareCode(text);
  const found: Import[] = [];
  const add = (index: number, specifierAt: number, typeOnly: boolean): void => {
    const quote = text[specifierAt] ?? '';
    const specifier = text.slice(specifierAt + 1, text.indexOf(quote, specifierAt + 1));
    const target = specifier.startsWith('.') ? join(dirname(path), specifier).replaceAll('\\', '/') : null;
    found.push({ from: path, line: bare.slice(0, index).split('\n').length, specifier, target, typeOnly });
  };
  // Statements: the bare code keeps the quotes in place, the text holds what is between them.
  for (const match of bare.matchAll(/^[ \t]*(import|export)\b([^;'"`]*?)(?:\bfrom\s*)?(['"])/gm)) {
    const [whole, keyword, clause = ''] = match;
    if (keyword === 'export' && !/\bfrom\s*['"]$/.test(whole)) continue;
    if (/^\s*[.(]/.test(clause)) continue;
    const named =
      /\{([^}]*)\}/
        .exec(clause)?.[1]
        ?.split(',')
        .filter((name) => name.trim() !== '') ?? [];
    const allTypes =
      named.length > 0 && !/^\s*[\w$]+\s*,/.test(clause) && named.every((name) => name.trim().startsWith('type '));
    add(match.index, match.index + whole.length - 1, /^\s*type\b(?!\s*,)/.test(clause) || allTypes);
  }
  for (const match of bare.matchAll(/\bimport\s*\(\s*(['"])/g)) {
    add(match.index, match.index + match[0].length - 1, false);
  }
  return found;
}
