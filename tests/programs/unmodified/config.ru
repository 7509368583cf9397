# A Rack application that says which worker answers; /sleep/MS waits first.
worker = "#{ENV.fetch('OSTLER_POOL')}/#{ENV.fetch('OSTLER_WORKER')}"

run(lambda do |env|
  _, what, ms = env['PATH_INFO'].split('/')
  sleep(ms.to_i / 1000.0) if what == 'sleep'
  body = "hello worker=#{worker} pid=#{Process.pid}\n"
  [200, { 'Content-Type' => 'text/plain', 'Content-Length' => body.bytesize.to_s }, [body]]
end)
