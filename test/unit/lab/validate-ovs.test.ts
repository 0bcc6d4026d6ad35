/** What documents may say of Open vSwitch. */
import { describe, expect, test } from 'vitest';
import { parseTopology } from '../../../src/lab/document.ts';

function faults(host: object): string[] {
  const parsed = parseTopology({ name: 't', hosts: [host] });
  return parsed.ok ? [] : parsed.faults.map((f) => `${f.pointer} ${f.code}`);
}
const bridge = (fields: object): object => ({ bridges: [{ name: 'br0', ...fields }] });

test('nothing has to be said, and nothing of it is written then', () => {
  const parsed = parseTopology({ name: 't', hosts: [{ bridges: [{ name: 'br0' }], nics: [{ name: 'eth0' }] }] });
  if (!parsed.ok) throw new Error('it is valid');
  const [host] = parsed.document.hosts;
  expect(Object.keys(host!.bridges![0]!)).toEqual([
    'name',
    'datapath',
    'macTableSize',
    'macAgingTime',
    'userspaceTso',
    'pmds',
  ]);
  expect(Object.keys(host!)).not.toContain('ovs');
  expect(Object.keys(host!.nics![0]!)).not.toContain('plugged');
  expect(parsed.topology.hosts[0]!.nics[0]).toMatchObject({ plugged: true, tag: null, trunks: [], vlanMode: null });
});

describe('faults', () => {
  const ports = (...list: object[]): object => bridge({ ports: list });
  test.each([
    [ports({ name: 'p 1' }), '/hosts/0/bridges/0/ports/0/name bad-name'],
    [ports({ name: 'br0' }), '/hosts/0/bridges/0/ports/0/name duplicate-name'],
    [ports({ name: 'p' }, { name: 'p' }), '/hosts/0/bridges/0/ports/1/name duplicate-name'],
    [ports({ name: 'p', ofport: 3 }, { name: 'q', ofport: 3 }), '/hosts/0/bridges/0/ports/1/ofport duplicate-name'],
    [ports({ name: 'p', ofport: 65_280 }), '/hosts/0/bridges/0/ports/0/ofport out-of-range'],
    [ports({ name: 'p', type: 'patch' }), '/hosts/0/bridges/0/ports/0 missing-field'],
    [ports({ name: 'p', type: 'internal', peer: 'q' }), '/hosts/0/bridges/0/ports/0/peer wrong-backend'],
    [ports({ name: 'p', type: 'gre' }), '/hosts/0/bridges/0/ports/0/type unknown-value'],
    [ports({ name: 'p', tag: 4096 }), '/hosts/0/bridges/0/ports/0/tag out-of-range'],
    [ports({ name: 'p', vlanMode: 'hybrid' }), '/hosts/0/bridges/0/ports/0/vlanMode unknown-value'],
    [bridge({ controllers: ['127.0.0.1:6653'] }), '/hosts/0/bridges/0/controllers/0 unknown-value'],
    [bridge({ protocols: ['OpenFlow9'] }), '/hosts/0/bridges/0/protocols/0 unknown-value'],
    [bridge({ failMode: 'open' }), '/hosts/0/bridges/0/failMode unknown-value'],
    [bridge({ otherConfig: { 'mac-table-size': '5' } }), '/hosts/0/bridges/0/otherConfig/mac-table-size unknown-field'],
    [bridge({ otherConfig: { a: 5 } }), '/hosts/0/bridges/0/otherConfig/a wrong-type'],
    [bridge({ openflowPort: 0 }), '/hosts/0/bridges/0/openflowPort out-of-range'],
    [bridge({ bonds: [{ name: 'b', interfaces: ['p'] }] }), '/hosts/0/bridges/0/bonds/0/interfaces too-few'],
    [
      bridge({ bonds: [{ name: 'b', interfaces: ['p', 'q'] }], ports: [{ name: 'p' }] }),
      '/hosts/0/bridges/0/bonds/0/interfaces/1 unknown-end',
    ],
    [{ ovs: { ovsdbPort: 65_536 } }, '/hosts/0/ovs/ovsdbPort out-of-range'],
    [bridge({ datapath: 'linux', failMode: 'secure' }), '/hosts/0/bridges/0/failMode wrong-datapath'],
    [bridge({ datapath: 'linux', flows: ['actions=drop'] }), '/hosts/0/bridges/0/flows wrong-datapath'],
    [
      { bridges: [{ name: 'br0', datapath: 'linux' }], nics: [{ name: 'eth0', tag: 3 }] },
      '/hosts/0/nics/0/tag wrong-datapath',
    ],
    [
      {
        bridges: [{ name: 'br0', datapath: 'linux' }],
        guests: [{ name: 'a', nics: [{ name: 'net0', plugged: false }] }],
      },
      '/hosts/0/guests/0/nics/0/plugged wrong-datapath',
    ],
  ])('%j', (host, fault) => {
    expect(faults(host)).toEqual([fault]);
  });
  test.each(['tcp:127.0.0.1', 'tcp:[::1]:6653', 'unix:/run/x.sock', 'ptcp:6634:127.0.0.1', 'punix:/run/y'])(
    'target %s',
    (target) => expect(faults(bridge({ controllers: [target] }))).toEqual([]),
  );
});
