/** What is said of requests from the document alone is what a world says: of every two ends of every preset, in every kind of traffic. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { parseTopology } from '../../../../src/lab/document.ts';
import { endFaults, endsOf } from '../../../../src/lab/experiment/traffic-ends-check.ts';
import { PRESETS } from '../../../../src/lab/presets.ts';
import { Refusal } from '../../../../src/lab/refusal.ts';
import { BadTraffic, type TrafficRequestBody, trafficSpec } from '../../../../src/lab/traffic-request.ts';
import { World } from '../../../../src/lab/world.ts';

const KINDS = ['udp', 'ping', 'tcp', 'udp_rr'] as const;
const GENERATORS = [undefined, 'socket', 'pktgen', 'txonly'] as const;

const strangers = {
  name: 'strangers',
  document: {
    hosts: [
      {
        bridges: [{ name: 'br0', datapath: 'system' }],
        nics: [{ name: 'eth0', bridge: 'br0' }],
        guests: [
          { name: 'a', nics: [{ name: 'net0', addresses: ['10.0.0.1/24'] }] },
          { name: 'b', nics: [{ name: 'net0', addresses: ['10.0.1.2/24'] }] },
          { name: 'c', nics: [{ name: 'net0' }] },
          { name: 'd', nics: [{ name: 'net0', addresses: ['fd00::1/64'] }] },
          { name: 'e', nics: [{ name: 'net0', addresses: ['fd00::2/64'] }] },
          { name: 'f', nics: [{ name: 'net0', driver: 'none' }] },
        ],
      },
    ],
  },
};

test.each([...PRESETS, strangers].map(({ name, document }) => ({ name, document })))('$name', ({ document }) => {
  const parsed = parseTopology(document, { name: 'x' });
  assert.ok(parsed.ok, JSON.stringify(parsed));
  const { topology } = parsed;
  const world = new World(topology);
  const ends = endsOf(topology);
  const [host] = topology.hosts;
  const bridge = host?.bridges[0]?.name;
  const nic = host?.nics.find((one) => one.bridge === bridge);
  const several = topology.hosts.length > 1 ? `${host?.name}/` : '';
  const names = [...ends.names.slice(0, 8), ...(nic === undefined ? [] : [`${several}${bridge}/${nic.name}`])];
  let runs = 0;
  let refused = 0;
  for (const from of names) {
    for (const to of names) {
      for (const kind of KINDS) {
        for (const generator of GENERATORS) {
          const sized = kind === 'udp' || kind === 'ping' ? { frameSize: 128 } : {};
          const made = generator === undefined ? {} : { generator };
          const request = { kind, from, to, ...sized, ...made } as TrafficRequestBody;
          const [told] = endFaults(request, ends);
          const id = `run-${++runs}`;
          let said: { readonly pointer: string; readonly text: string } | null = null;
          try {
            world.startTraffic({ id, ...trafficSpec(request) });
            world.cancel(id);
          } catch (error) {
            if (error instanceof BadTraffic) continue;
            if (!(error instanceof Refusal)) throw error;
            said = { pointer: error.error.field ?? '', text: error.message };
          }
          const what = JSON.stringify({ request, told, said });
          // A NIC's wire end may be both ends where a guest forwards: that is the world's to say.
          if (from === to && ends.find(from)?.kind === 'wire') continue;
          assert.equal(told?.pointer ?? null, said?.pointer ?? null, what);
          if (told !== undefined) refused++;
        }
      }
    }
  }
  assert.ok(refused > 0 && refused < runs, `${refused} ${runs}`);
});
