/** The page of flow VU-4, what DPDK gives: each setting with and without, and what a run of each shows. */
import type { Ringside } from './ringside.ts';

interface Result {
  readonly state: string;
  readonly reason?: string;
  readonly received: number;
  readonly virtual: { readonly framesPerSecond: number };
  readonly perFrame: Readonly<Record<'kicks' | 'interrupts' | 'exitsKernel' | 'exitsUserspace' | 'wakeups', number>>;
  readonly contexts: readonly { readonly name: string; readonly busyRatio: number }[];
}
interface Setting {
  readonly title: string;
  readonly text: string;
  readonly rows: readonly { readonly name: string; readonly document: object; readonly traffic?: object }[];
}

const UDP = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 20_000, flows: 16 };
function document(datapath: string, guest: object, nic: object, bridge: object = {}): object {
  return {
    hosts: [
      {
        name: 'h1',
        cores: 16,
        bridges: [{ name: 'br0', datapath, ...bridge }],
        guests: ['a', 'b'].map((name, i) => ({
          name,
          ...guest,
          nics: [{ name: 'net0', bridge: 'br0', addresses: [`10.0.0.${i + 1}/24`], ...nic }],
        })),
      },
    ],
  };
}
const PMD = { backend: 'vhost-user', driver: 'virtio-pmd' };
const dpdk = (guest: object = {}, nic: object = {}, bridge: object = {}): object =>
  document('netdev', guest, { ...PMD, ...nic }, bridge);
const strict = { iommu: { mode: 'strict' } };

const SETTINGS: readonly Setting[] = [
  {
    title: 'Open vSwitch in the kernel, and with DPDK',
    text: 'The article says: about ten times. What shows here follows from the [cost table](../../src/engine/costs.ts), for one queue pair and one PMD.',
    rows: [
      { name: 'kernel datapath, vhost-net', document: document('system', {}, { backend: 'vhost-net' }) },
      { name: 'netdev datapath, vhost-user, polling guests', document: dpdk() },
    ],
  },
  {
    title: 'Polling',
    text: 'A polling driver and a polling switch need no notifications. A kernel driver at the same port is interrupted.',
    rows: [
      {
        name: 'kernel driver, 10,000 frames a second',
        document: dpdk({}, { driver: 'virtio-net' }),
        traffic: { rate: 10_000, count: 2000 },
      },
      { name: 'polling driver, 10,000 frames a second', document: dpdk(), traffic: { rate: 10_000, count: 2000 } },
    ],
  },
  {
    title: 'Cores for PMDs, and rings without locks',
    text: 'Each PMD has a core of its own (`pmds`, `pmd-cpu-mask`), and a queue of its own towards each guest: a second one takes nothing from the first.',
    rows: [1, 2, 4].map((pmds) => ({
      name: `${pmds} PMD${pmds > 1 ? 's' : ''}, 4 queue pairs`,
      document: dpdk({ vcpus: 4 }, { queuePairs: 4 }, { pmds }),
    })),
  },
  {
    title: 'Hugepages, behind a vIOMMU',
    text: 'A page is a translation: with 4 KiB each one is asked for when it is first met, with 2 MiB QEMU has said all there is to know when the rings start. These are the first frames of each run.',
    rows: (['4KiB', '2MiB'] as const).map((hugepages) => ({
      name: `pages of ${hugepages.replace('KiB', ' KiB').replace('MiB', ' MiB')}`,
      document: dpdk({ ...strict, dpdk: { hugepages } }),
      traffic: { count: 3000 },
    })),
  },
];

const fixed = (n: number): string => (n === 0 ? '0' : n.toFixed(n < 10 ? 2 : 0));

async function measure(server: Ringside, { document, traffic }: Setting['rows'][number]): Promise<Result> {
  const topology = '/v1/topologies/vu-4';
  await server.json('PUT', topology, document);
  const run = async (body: object): Promise<Result> => {
    const { id } = await server.json<{ id: string }>('POST', `${topology}/traffic`, body);
    return await server.json<Result>('GET', `${topology}/traffic/${id}?wait=60s`);
  };
  // neighbours and flows are known; behind a vIOMMU the first tries may be lost
  for (let tries = 0; tries < 10; tries++) if ((await run({ ...UDP, count: 1, flows: 1 })).state === 'SUCCEEDED') break;
  const result = await run({ ...UDP, ...traffic });
  if (result.state !== 'SUCCEEDED') throw new Error(`vu-4: ${JSON.stringify(result)}`);
  await fetch(`${server.url}${topology}`, { method: 'DELETE' });
  return result;
}

/** Markdown, made from runs on `server`. */
export async function vu4Page(server: Ringside, head: string): Promise<string> {
  const parts = [
    '# VU-4: What DPDK gives',
    head,
    'Each of its settings is a field of the document, and what it does shows in a run. Rates are frames per second of virtual time; the other columns are for each frame. The tests of `test/flows/vu-4.test.ts` hold these effects, and those of VFIO and of the driver’s filters.',
  ];
  for (const { title, text, rows } of SETTINGS) {
    const lines = [
      '| | frames/s | received | kicks | interrupts | exits | wake-ups |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ];
    for (const row of rows) {
      const { virtual, received, perFrame: p } = await measure(server, row);
      const cells = [p.kicks, p.interrupts, p.exitsKernel + p.exitsUserspace, p.wakeups].map(fixed);
      lines.push(
        `| ${[row.name, Math.round(virtual.framesPerSecond).toLocaleString('en'), received.toLocaleString('en'), ...cells].join(' | ')} |`,
      );
    }
    parts.push(`## ${title}`, text, lines.join('\n'));
  }
  return parts.join('\n\n') + '\n';
}
