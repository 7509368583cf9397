<?php
// Says which worker answers; /sleep/MS waits first.
[, $what, $ms] = explode('/', $_SERVER['REQUEST_URI'] . '//');
if ($what === 'sleep') {
    usleep(1000 * (int) $ms);
}
header('Content-Type: text/plain');
echo 'hello worker=' . getenv('OSTLER_POOL') . '/' . getenv('OSTLER_WORKER') . ' pid=' . getmypid() . "\n";
