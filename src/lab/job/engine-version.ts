/** Which Ringside this is, as far as results depend on it: the package's version, and a hash of the sources that simulate. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import packageJson from '../../../package.json' with { type: 'json' };

/** Folders of src/ that a result depends on. */
const FOLDERS = ['engine', 'machine', 'lab'];

let known: string | null = null;

/** Reads the sources once. */
export function engineVersion(): string {
  known ??= `${packageJson.version}+${sourceHash()}`;
  return known;
}

function sourceHash(): string {
  const hash = createHash('sha256');
  for (const folder of FOLDERS) {
    const root = fileURLToPath(new URL(`../../${folder}/`, import.meta.url));
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
    for (const file of files.sort()) hash.update(`${folder}/${file}\n`).update(readFileSync(`${root}${file}`));
  }
  return hash.digest('hex').slice(0, 16);
}
