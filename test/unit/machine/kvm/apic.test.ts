import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import { msiAddress, msiTarget } from '../../../../src/machine/kvm/apic.ts';

describe('destination of an MSI', () => {
  it('is a bit each for up to eight CPUs, and a number beyond; each message finds its CPU', () => {
    // what Linux writes on one CPU, recorded
    assert.equal(msiAddress(0, 1), 0xfee0_1004);
    assert.equal(msiAddress(3, 4), 0xfee0_8004);
    assert.equal(msiAddress(7, 8), 0xfee8_0004);
    assert.equal(msiAddress(3, 9), 0xfee0_3000);
    for (let cpus = 1; cpus <= 64; cpus++) {
      for (let cpu = 0; cpu < cpus; cpu++) assert.equal(msiTarget(msiAddress(cpu, cpus)), cpu);
    }
  });
  it('of a message to several CPUs the first has it, of one to none nobody', () => {
    assert.equal(msiTarget(0xfee0_6004), 1);
    assert.equal(msiTarget(0xfee0_0004), -1);
  });
});
