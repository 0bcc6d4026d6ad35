/** A template's measurement, and how it goes together with the template's traffic. */
import type { JobTraffic } from '../job/job.ts';
import { Measure, type MeasureBody, measureSpec } from '../job/measure.ts';
import { type SchemaFault, schemaCheck } from '../schema-faults.ts';
import { BadTraffic } from '../traffic-request.ts';

/** Fills in what has a default, in place. */
const checkShape = schemaCheck(Measure);

/** What is wrong with a measurement whose traffic has been checked; pointers begin with `/measure` or `/traffic`. */
export function measureFaults(measure: unknown, traffic: readonly JobTraffic[]): SchemaFault[] {
  const shape = checkShape(measure);
  if (shape.length > 0) return shape.map((fault) => ({ ...fault, pointer: `/measure${fault.pointer}` }));
  try {
    measureSpec(measure as MeasureBody, traffic);
    return [];
  } catch (error) {
    if (!(error instanceof BadTraffic)) throw error;
    return [{ pointer: error.pointer, detail: error.detail, expected: error.expected }];
  }
}
