@echo off
rem Wireshark on Windows starts this; Node has to be on the PATH.
node "%~dp0ringside.mjs" %*
