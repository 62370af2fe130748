// Command sentinel-mqtt-agent secures MQTT traffic: behind the Sentinel proxy
// as its agent, and in the path as a gateway in front of a broker.
package main

func main() {}
