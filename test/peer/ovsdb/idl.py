"""The Python IDL, on which OpenStack's ovsdbapp is built: connects, follows two tables, makes transactions, sees their effect."""
import sys

import ovs.db.idl
import ovs.poller
from ovs.db.idl import Idl, SchemaHelper, Transaction

target, schema_file = sys.argv[1:3]
helper = SchemaHelper(schema_file)
helper.register_columns('Bridge', ['name', 'ports', 'other_config', 'fail_mode', 'flood_vlans'])
helper.register_columns('Port', ['name', 'tag'])
helper.register_columns('Open_vSwitch', ['cur_cfg', 'next_cfg', 'bridges'])
idl = Idl(target, helper)


def until(condition):
    while not condition():
        idl.run()
        if condition():
            return
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.timer_wait(100)
        poller.block()


def bridge():
    return next((row for row in idl.tables['Bridge'].rows.values() if row.name == 'br0'), None)


until(idl.has_ever_connected)
until(lambda: bridge() is not None)
print('ports', sorted(port.name for port in bridge().ports))


def commit(change):
    txn = Transaction(idl)
    change(txn, bridge())
    txn.add_comment('idl.py')
    next(iter(idl.tables['Open_vSwitch'].rows.values())).increment('next_cfg')
    print(txn.commit_block(), txn.get_error())
    wanted = txn.get_increment_new_value()
    until(lambda: next(iter(idl.tables['Open_vSwitch'].rows.values())).cur_cfg >= wanted)


def first(txn, row):
    row.fail_mode = ['secure']
    row.flood_vlans = [30, 10]
    row.setkey('other_config', 'a', '1')
    row.setkey('other_config', 'b', '2')


def second(txn, row):
    row.verify('fail_mode')
    row.fail_mode = []
    row.addvalue('flood_vlans', 20)
    row.delvalue('flood_vlans', 10)
    row.delkey('other_config', 'a')


for change in (first, second):
    commit(change)
    row = bridge()
    print(row.fail_mode, sorted(row.flood_vlans), sorted(row.other_config.items()))
idl.cond_change('Port', [['name', '==', 'br0']])
until(lambda: len(idl.tables['Port'].rows) == 1)
print('rows', sorted(port.name for port in idl.tables['Port'].rows.values()))
txn = Transaction(idl)
bridge().fail_mode = ['open']
print(txn.commit_block(), txn.get_error())
idl.close()
