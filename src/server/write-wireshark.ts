/** Writes wireshark/ringside-profile.zip from its sources. The file is committed; a test fails when it is not up to date. */
import { writeFileSync } from 'node:fs';
import { profileZip } from './wireshark-files.ts';

writeFileSync(new URL('../../wireshark/ringside-profile.zip', import.meta.url), profileZip());
