/**
 * A home folder in which Wireshark finds the profile and the Lua script, and tshark run from there. As root Wireshark
 * ignores WIRESHARK_EXTCAP_DIR; `asNobody` runs it as a user without rights, which everybody may become only from root.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ROOT } from '../tools/source.ts';

export interface Outcome {
  readonly status: number | null;
  readonly out: string;
  /** Without the remark that root should not do this. */
  readonly err: string;
}

const ROOT_REMARK = /^Running as user "root" and group "root"\. This could be dangerous\.\n/gm;
const NOBODY = 65534;

export class WiresharkHome {
  readonly folder = mkdtempSync(join(tmpdir(), 'ringside-wireshark-'));
  readonly extcap = join(this.folder, 'extcap');

  constructor(options: { readonly script?: boolean } = {}) {
    const plugins = join(this.folder, '.local/lib/wireshark/plugins');
    const profiles = join(this.folder, '.config/wireshark/profiles');
    for (const folder of [plugins, profiles, this.extcap]) mkdirSync(folder, { recursive: true });
    if (options.script !== false) copyFileSync(join(ROOT, 'wireshark/ringside.lua'), join(plugins, 'ringside.lua'));
    cpSync(join(ROOT, 'wireshark/profile/Ringside'), join(profiles, 'Ringside'), { recursive: true });
    copyFileSync(join(ROOT, 'wireshark/extcap/ringside.mjs'), join(this.extcap, 'ringside.mjs'));
    chmodSync(join(this.extcap, 'ringside.mjs'), 0o755);
    // For asNobody.
    spawnSync('chmod', ['-R', 'a+rwX', this.folder]);
  }

  env(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
      HOME: this.folder,
      LC_ALL: 'C.UTF-8',
      WIRESHARK_EXTCAP_DIR: this.extcap,
      ...more,
    };
  }

  run(
    program: string,
    args: readonly string[],
    options: { env?: Record<string, string>; input?: Uint8Array } = {},
  ): Outcome {
    const done = spawnSync(program, args, {
      cwd: this.folder,
      env: options.env ?? this.env(),
      maxBuffer: 1 << 28,
      timeout: 60_000,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
    if (done.error !== undefined) throw done.error;
    return { status: done.status, out: done.stdout.toString(), err: done.stderr.toString().replace(ROOT_REMARK, '') };
  }

  tshark(args: readonly string[], input?: Uint8Array): Outcome {
    return this.run('tshark', args, input === undefined ? {} : { input });
  }

  /** Rows of fields; fails with what tshark said where it said anything. */
  fields(args: readonly string[], names: readonly string[]): string[][] {
    const { status, out, err } = this.tshark([...args, '-n', '-T', 'fields', ...names.flatMap((name) => ['-e', name])]);
    if (status !== 0 || err !== '') throw new Error(`tshark ${args.join(' ')}: ${status}\n${err}`);
    return out
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t'));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A command line that runs `program` as a user for whom Wireshark heeds its environment. */
export function asNobody(program: string, args: readonly string[]): [string, string[]] {
  if (process.getuid?.() !== 0) return [program, [...args]];
  return ['setpriv', [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', program, ...args]];
}
