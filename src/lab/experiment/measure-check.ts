/** A template's measurement, and how it goes together with the template's traffic. */
import type { JobTraffic } from '../job/job.ts';
import { Measure, type MeasureBody, measureSpec } from '../job/measure.ts';
import { type SchemaFault, schemaCheck } from '../schema-faults.ts';
import type { Topology } from '../topology.ts';
import { BadTraffic } from '../traffic-request.ts';
import { endsOf } from './traffic-ends-check.ts';

/** Fills in what has a default, in place. */
const checkShape = schemaCheck(Measure);

/** What is wrong with a measurement whose traffic has been checked; pointers begin with `/measure` or `/traffic`. */
export function measureFaults(measure: unknown, traffic: readonly JobTraffic[], topology: Topology): SchemaFault[] {
  const shape = checkShape(measure);
  if (shape.length > 0) return shape.map((fault) => ({ ...fault, pointer: `/measure${fault.pointer}` }));
  try {
    const { reset } = measureSpec(measure as MeasureBody, traffic);
    return reset === null ? [] : resetFaults(reset.nic, topology);
  } catch (error) {
    if (!(error instanceof BadTraffic)) throw error;
    return [{ pointer: error.pointer, detail: error.detail, expected: error.expected }];
  }
}

/** A world says no for the same reasons (faults.ts), but only after all trials that come before. */
function resetFaults(nic: string, topology: Topology): SchemaFault[] {
  const fault = (detail: string, expected: string): SchemaFault[] => [
    { pointer: '/measure/reset/nic', detail, expected },
  ];
  const ends = endsOf(topology);
  const end = ends.find(nic);
  if (end?.kind !== 'guest') {
    const guests = ends.names.filter((name) => ends.find(name)?.kind === 'guest');
    const expected =
      guests.length === 0 ? "a guest's NIC, of which there is none" : `one of ${guests.slice(0, 12).join(', ')}`;
    return fault(`there is no NIC ${JSON.stringify(nic)} of a guest`, expected);
  }
  const { backend } = end.nic;
  if (backend !== 'vhost-user')
    return fault(`${nic} has back-end ${backend}, which has no process of its own`, 'a NIC with vhost-user');
  if (end.guest.vmm === 'stratovirt') return fault(`guest ${end.guest.name} runs under StratoVirt`, 'a guest of QEMU');
  return [];
}
