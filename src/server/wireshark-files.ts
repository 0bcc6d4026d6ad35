/**
 * What Wireshark is given: the Lua script, the extcap program and the profile as a zip that its "Import from zip file" takes.
 * All of it is made from the folder `wireshark/`; the zip is the same bytes wherever and whenever it is made.
 */
import { readFileSync } from 'node:fs';
import { strToU8, type Zippable, zipSync } from 'fflate';

const FOLDER = new URL('../../wireshark/', import.meta.url);

export const PROFILE = 'Ringside';
export const PROFILE_FILES = ['colorfilters', 'dfilter_buttons', 'dfilters', 'preferences', 'user_dlts'] as const;

/** Text of a file in `wireshark/`. Throws where the server was installed without that folder. */
export function wiresharkText(path: string): string {
  return readFileSync(new URL(path, FOLDER), 'utf8');
}

/**
 * The profile in a folder of its own, and in the same folder the Lua script and how to install it. Wireshark's import
 * unpacks folders only and copies those of their files that belong to profiles; what else is in them it leaves alone
 * (wireshark ui/qt/models/profile_model.cpp, ProfileModel::copyTempToProfile()).
 */
export function profileZip(): Uint8Array {
  const entries: Zippable = {};
  const add = (name: string, path: string): void => {
    entries[`${PROFILE}/${name}`] = strToU8(wiresharkText(path));
  };
  for (const name of PROFILE_FILES) add(name, `profile/${PROFILE}/${name}`);
  add('ringside.lua', 'ringside.lua');
  add('README.md', 'README.md');
  // A zip holds local times: the first moment that it can hold, in whatever zone this runs. `os` 3 is Unix: modes are
  // those of ordinary files (rw-r--r--).
  return zipSync(entries, { level: 9, mtime: new Date(1980, 0, 1), os: 3, attrs: 0o100644 << 16 });
}
