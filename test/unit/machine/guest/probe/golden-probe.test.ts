/** Our device and our Linux driver against the recorded ones, for every option set. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'vitest';
import { featuresHex } from '../../../../../src/machine/virtio/features.ts';
import { IDENTITY_PAGE, identityPage } from '../../../../tools/identity-docs.ts';
import { ROOT } from '../../../../tools/source.ts';
import { GOLDEN } from '../../virtio/golden-options.ts';
import { BOOTS, boot, differencesOf, REASONS } from './golden-probe.ts';

describe('identity and boot as recorded on QEMU 7.2 with Linux 6.1', () => {
  for (const set of Object.keys(BOOTS)) {
    it(`${set}: configuration space, capabilities, features, device configuration and the order of accesses`, () => {
      assert.deepEqual(
        differencesOf(set).filter((d) => !REASONS.some((r) => r.fits(d))),
        [],
      );
    });
  }
  it('the recording is whole: every option set, and no access of a boot is left out', () => {
    assert.deepEqual(Object.keys(BOOTS), Object.keys(GOLDEN));
    const { result, device } = boot('mq4');
    assert.ok(result.failed === undefined);
    assert.deepEqual([result.queuePairs, result.controlQueue, result.vectors.length], [4, 8, 9]);
    assert.equal(featuresHex(device.driverFeatures), GOLDEN['mq4']!.accepted);
    assert.equal(BOOTS['mq4']!.lines.split('\n').length, 450);
  });
  it('no reason without a difference, and most sets have none', () => {
    const all = Object.keys(BOOTS).map(differencesOf);
    for (const reason of REASONS) assert.ok(all.flat().some(reason.fits), reason.why);
    assert.equal(all.filter((list) => list.length === 0).length, 26);
  });
  it('docs/identity.md is up to date', () => {
    assert.ok(readFileSync(join(ROOT, IDENTITY_PAGE), 'utf8') === identityPage(), 'npm run identity');
  });
});
