/** All commands, by name. */
import type { Command } from '../command.ts';
import { BOND } from './bond.ts';
import { DPCTL } from './dpctl.ts';
import { DPIF } from './dpif.ts';
import { FDB } from './fdb.ts';
import { GENERAL } from './general.ts';
import { LOGGING } from './logging.ts';
import { PMD } from './pmd.ts';
import { TRACE } from './trace.ts';
import { UPCALL } from './upcall.ts';

export const COMMANDS: readonly Command[] = [
  ...BOND,
  ...DPCTL,
  ...DPIF,
  ...FDB,
  ...GENERAL,
  ...LOGGING,
  ...PMD,
  ...TRACE,
  ...UPCALL,
].sort((a, b) => (a.name < b.name ? -1 : 1));
