/** What the API says of a NIC that was given another back-end. */
import type { BuiltNic } from './build/machine.ts';
import type { MigrationTimes } from './devices/vmm/nic-migration.ts';
import { deviceState } from './inspect.ts';
import type { NicMigration } from './protocol.ts';

const seconds = (ns: number): number | null => (ns < 0 ? null : ns / 1e9);
const between = (from: number, to: number): number | null => (from < 0 || to < 0 ? null : (to - from) / 1e9);
/** What became of the last change of a NIC; null: there was none. */
export function nicMigration(built: BuiltNic): NicMigration | null {
  const t: MigrationTimes | null = deviceState(built).nic.migration;
  if (t === null) return null;
  return {
    backend: built.document.backend,
    bridge: built.document.bridge,
    state: t.failed !== null ? 'FAILED' : t.announcedNs < 0 ? 'RUNNING' : 'COMPLETED',
    reason: t.failed,
    askedAtSeconds: t.askedNs / 1e9,
    stoppedAtSeconds: seconds(t.stoppedNs),
    startedAtSeconds: seconds(t.startedNs),
    downtimeSeconds: between(t.stoppedNs, t.startedNs),
    phases: {
      stopSeconds: between(t.stoppedNs, t.ringsNs),
      saveSeconds: between(t.ringsNs, t.savedNs),
      switchSeconds: between(t.savedNs, t.switchedNs),
      loadSeconds: between(t.switchedNs, t.loadedNs),
      startSeconds: between(t.loadedNs, t.startedNs),
      announceSeconds: between(t.startedNs, t.announcedNs),
    },
    stateBytes: t.stateBytes,
  };
}
