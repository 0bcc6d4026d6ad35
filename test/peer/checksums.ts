/** What tshark says of frames' checksums, TCP streams and reassembled datagrams: a reader that knows nothing of us. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pcapng } from './wireshark-rows.ts';

const LINKTYPE_ETHERNET = 1;
/** Wireshark's names of checksum states (epan/proto.h proto_checksum_vals). */
const STATES = ['Bad', 'Good', 'Unverified', 'Not present'];

export interface Dissected {
  /** State of the checksums by field: `ip.checksum`, `tcp.checksum`, `udp.checksum`; only those that the frame has. */
  readonly checksums: Readonly<Record<string, string>>;
  readonly tcpLength: number | null;
  readonly sequence: number | null;
  /** Messages of Wireshark's experts: retransmissions, gaps, malformed headers. */
  readonly expert: readonly string[];
  /** Length of the datagram that this fragment completes. */
  readonly reassembled: number | null;
  readonly udpLength: number | null;
}

/** Runs tshark, with every checksum verified, over the frames of a capture file. */
export function dissectFile(path: string): Dissected[] {
  const names = [
    'ip.checksum.status',
    'tcp.checksum.status',
    'udp.checksum.status',
    'tcp.len',
    'tcp.seq_raw',
    '_ws.expert.message',
    'ip.reassembled.length',
    'ipv6.reassembled.length',
    'udp.length',
  ];
  const verify = ['ip', 'tcp', 'udp'].flatMap((p) => ['-o', `${p}.check_checksum:TRUE`]);
  const args = ['-r', path, '-n', ...verify, '-T', 'fields', ...names.flatMap((n) => ['-e', n])];
  const result = spawnSync('tshark', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(`tshark: ${result.status}\n${result.stderr}`);
  const number = (text: string | undefined): number | null => (text ? Number(text.split(',')[0]) : null);
  return result.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const f = line.split('\t');
      const checksums: Record<string, string> = {};
      for (const i of [0, 1, 2]) {
        if (f[i])
          checksums[names[i]!.replace('.status', '')] = f[i]!.split(',')
            .map((s) => STATES[Number(s)])
            .join(',');
      }
      return {
        checksums,
        tcpLength: number(f[3]),
        sequence: number(f[4]),
        expert: f[5] ? f[5].split(',') : [],
        reassembled: number(f[6]) ?? number(f[7]),
        udpLength: number(f[8]),
      };
    });
}

/** The same for Ethernet frames that lie here. */
export function dissect(frames: readonly Uint8Array[]): Dissected[] {
  const folder = mkdtempSync(join(tmpdir(), 'ringside-checksums-'));
  try {
    const path = join(folder, 'frames.pcapng');
    writeFileSync(
      path,
      pcapng(
        LINKTYPE_ETHERNET,
        frames.map((data, i) => ({ data, timeNs: i * 1000 })),
      ),
    );
    return dissectFile(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
